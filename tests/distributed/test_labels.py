"""The gradient of a classifier's step is the same however its rows are split."""

from typing import Any

import pytest
from distributed import labelled
from distributed.pair import Pair
from distributed.test_loss_rule import SPLITS, difference

TASKS: dict[str, dict[str, Any]] = {
    "single": {},
    "weighted": {"class_weights": "balanced", "label_smoothing": 0.1},
    "focal": {"focal": 2.0, "class_weights": "balanced"},
    "multiple": {"problem": "multiple"},
    "ordinal": {"problem": "ordinal"},
    "regression": {"problem": "regression"},
}
ENGINES = [("torch", 0), ("deepspeed", 2), ("deepspeed", 3)]


@pytest.mark.parametrize("micro", SPLITS)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_one_rank_gives_the_gradient_of_the_plain_loop(family: str, task: str, micro: int) -> None:
    ours = labelled.gradient(family, TASKS[task], "torch", 0, micro, rows=16, global_=16, step=0)
    assert difference(ours, labelled.reference(family, TASKS[task], 16, 0, 16)) <= 1e-5


@pytest.mark.parametrize("task", ["weighted", "multiple", "ordinal", "regression"])
@pytest.mark.parametrize(("kind", "zero"), ENGINES)
def test_two_ranks_give_the_gradient_of_the_plain_loop(pair: Pair, kind: str, zero: int, task: str) -> None:
    results = pair.run(labelled.gradient, "bert", TASKS[task], kind, zero, 4, 16, 16, 0)
    expected = labelled.reference("bert", TASKS[task], 16, 0, 16)
    assert max(difference(result, expected) for result in results) <= 1e-5


@pytest.mark.parametrize("task", ["weighted", "multiple", "ordinal", "regression"])
@pytest.mark.parametrize(("kind", "zero"), ENGINES)
def test_a_short_last_window_counts_only_its_own_rows(pair: Pair, kind: str, zero: int, task: str) -> None:
    results = pair.run(labelled.gradient, "llama", TASKS[task], kind, zero, 2, 19, 16, 1)
    expected = labelled.reference("llama", TASKS[task], 19, 16, 3)
    assert max(difference(result, expected) for result in results) <= 1e-5


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
@pytest.mark.parametrize(("kind", "zero"), ENGINES)
def test_a_rank_without_a_row_waits_for_the_other(pair: Pair, kind: str, zero: int, family: str) -> None:
    results = pair.run(labelled.gradient, family, {}, kind, zero, 2, 17, 16, 1)
    expected = labelled.reference(family, {}, 17, 16, 1)
    assert max(difference(result, expected) for result in results) <= 1e-5


def test_a_step_that_counts_less_than_one_is_divided_by_that() -> None:
    task = {"class_weights": {"a": 0.3, "b": 0.2, "c": 0.1}}
    ours = labelled.gradient("bert", task, "torch", 0, 1, rows=16, global_=1, step=0)
    assert difference(ours, labelled.reference("bert", task, 16, 0, 1)) <= 1e-5


@pytest.mark.parametrize("micro", SPLITS)
def test_the_mean_of_all_tokens_gives_the_gradient_of_the_plain_loop(micro: int) -> None:
    ours = labelled.pooled_gradient("torch", 0, micro, rows=16, global_=16, step=0)
    assert difference(ours, labelled.pooled_reference(16, 0, 16)) <= 1e-5


@pytest.mark.parametrize(("kind", "zero"), ENGINES)
def test_two_ranks_give_it_too(pair: Pair, kind: str, zero: int) -> None:
    results = pair.run(labelled.pooled_gradient, kind, zero, 2, 19, 16, 1)
    expected = labelled.pooled_reference(19, 16, 3)
    assert max(difference(result, expected) for result in results) <= 1e-5
