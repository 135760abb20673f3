"""The examples of a split, read from arrays."""

from typing import Any

import numpy as np
import pytest

from trainer.data import split
from trainer.data.split import Split


@pytest.mark.parametrize("chosen", [None, [3, 7, 1, 40], []])
@pytest.mark.parametrize("block", [2, 1000])
def test_marks_are_those_of_the_chosen_examples(
    monkeypatch: pytest.MonkeyPatch, chosen: list[int] | None, block: int
) -> None:
    monkeypatch.setattr(split, "_BLOCK", block)
    draw = np.random.default_rng(0)
    lengths = draw.integers(0, 6, 50).astype(np.int32)
    marks = draw.integers(-1, 40, lengths.sum()).astype(np.int32)
    arrays: dict[str, Any] = {"marks": marks, "lengths": lengths, "starts": np.cumsum(lengths) - lengths}

    found = Split(arrays, None if chosen is None else np.array(chosen, dtype=np.int64))

    expected = {int(mark) for row in range(len(found)) for mark in found.marks(row)} - {-1}
    assert found.present_marks() == sorted(expected)
