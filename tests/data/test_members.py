from typing import Any

import a_recipe
import numpy as np
import pytest

from trainer.data.members import weights_of
from trainer.data.split import Split

TRAIN = [
    {"path": "a", "format": "text", "task": "topic"},
    {"path": "b", "format": "words", "task": "names"},
    {"path": "c", "format": "text", "task": "topic", "weight": 2.0},
]
TASKS = {"topic": {"kind": "classify"}, "names": {"kind": "token_labels"}}


def weights(sampling: Any, temperature: float = 2.0) -> list[float]:
    """Of 50 and 40 rows of one task, and 10 of the other."""
    task = {"kind": "multi_task", "tasks": TASKS, "sampling": sampling, "temperature": temperature}
    recipe = a_recipe.recipe(task=task, data={"train": TRAIN})
    source = np.repeat([0, 1, 2], [50, 10, 40]).astype(np.int32)
    return list(weights_of(recipe, Split({"source": source, "lengths": np.ones(100, np.int32)})))


def test_each_row_counts_once_by_size() -> None:
    assert weights("size") == [1.0, 1.0, 2.0]


def test_a_temperature_brings_tasks_closer() -> None:
    # The square roots of 90 and 10 are as 3 to 1: of 100 rows 75 and 25.
    assert weights("temperature") == pytest.approx([75 / 90, 2.5, 2 * 75 / 90])
    assert weights("temperature", 1.0) == pytest.approx([1.0, 1.0, 2.0])


def test_a_proportion_is_kept() -> None:
    assert weights({"topic": 1.0, "names": 1.0}) == pytest.approx([50 / 90, 5.0, 2 * 50 / 90])
