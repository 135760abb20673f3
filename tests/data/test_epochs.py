from collections import Counter
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config.train import Train
from trainer.data.epochs import Epochs, arranged, times_due, weighted
from trainer.data.packing import Layout

_WEIGHTS = st.one_of(
    st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.75, 1.5, 2.0, 2.25, 3.0]),
    st.floats(0.05, 4, allow_nan=False).map(lambda weight: round(weight, 3)),
)


def _layout(**changed: Any) -> Layout:
    return Layout(**{"global_": 4, "micro": 2, "packing": True, "micro_tokens": 100, "pad": 0, **changed})


def _epoch(epochs: Epochs, epoch: int) -> list[int]:
    """The rows of an epoch in the order of its steps."""
    first = sum(epochs.steps(before) for before in range(epoch))
    return [row for step in range(first, first + epochs.steps(epoch)) for row in epochs.rows(step)[0]]


@settings(deadline=None)
@given(weights=st.lists(_WEIGHTS, min_size=1, max_size=3), seed=st.none() | st.integers(0, 3), data=st.data())
def test_after_any_number_of_epochs_each_row_was_seen_as_often_as_its_weight_says(
    weights: list[float], seed: int | None, data: st.DataObject
) -> None:
    sources = np.array(data.draw(st.lists(st.integers(0, len(weights) - 1), min_size=5, max_size=40)))
    epochs = Epochs(np.ones(len(sources), dtype=np.int64), _layout(), seed, weighted(weights, sources))
    seen: Counter[int] = Counter()

    for done in range(1, 6):
        seen.update(_epoch(epochs, done - 1))
        for row, source in enumerate(sources):
            expected = Fraction(str(weights[source])) * done
            assert expected - 1 < seen[row] < expected + 1


@pytest.mark.parametrize(("weight", "epochs"), [(0.5, 2), (0.25, 4), (0.1, 10), (1.5, 2), (2, 1), (0.3, 10)])
def test_over_whole_numbers_of_passes_no_row_is_lost_or_seen_once_more(weight: float, epochs: int) -> None:
    rows = np.arange(1000)

    times = sum(times_due(rows, weight, 7, epoch) for epoch in range(epochs))

    assert (times == weight * epochs).all()


def test_half_of_the_rows_are_half_of_the_rows_and_the_other_half_is_next() -> None:
    rows = np.arange(1000)

    first, second = (times_due(rows, 0.5, 0, epoch) for epoch in range(2))

    assert abs(int(first.sum()) - 500) <= 2
    assert (first + second == 1).all()
    assert 200 <= int(first[:500].sum()) <= 300, "the due ones stand all over the source"


def test_one_row_is_due_as_the_array_says() -> None:
    rows = np.arange(200)

    assert [times_due(row, 1.3, 3, 2) for row in range(200)] == times_due(rows, 1.3, 3, 2).tolist()


def test_rows_without_weights_are_a_permutation_for_each_epoch() -> None:
    epochs = Epochs(np.ones(40, dtype=np.int64), _layout(), seed=3)

    assert [sorted(_epoch(epochs, epoch)) for epoch in range(2)] == [list(range(40))] * 2
    assert _epoch(epochs, 0) != _epoch(epochs, 1)


def test_an_unshuffled_epoch_goes_through_all_rows_and_then_those_that_are_due_again() -> None:
    sources = np.array([0, 0, 1, 1])
    epochs = Epochs(np.ones(4, dtype=np.int64), _layout(), None, weighted([2.0, 1.0], sources))

    assert _epoch(epochs, 0) == [0, 1, 2, 3, 0, 1]


@settings(deadline=None)
@given(copies=st.lists(st.integers(0, 4), min_size=1, max_size=60), seed=st.integers(0, 5))
def test_copies_of_a_row_stand_apart(copies: list[int], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(copies))

    found = arranged(np.array(copies), order, shuffled=True).tolist()

    assert Counter(found) == Counter({row: count for row, count in enumerate(copies) if count})
    alike = Counter(copies)
    for row, count in enumerate(copies):
        places = [place for place, other in enumerate(found) if other == row]
        assert all(after - before >= alike[count] for before, after in pairwise(places))


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=40),
    tokens=st.none() | st.integers(30, 90),
    seed=st.none() | st.integers(0, 3),
)
def test_no_step_crosses_an_epoch_and_progress_is_whole_at_its_end(
    lengths: list[int], tokens: int | None, seed: int | None
) -> None:
    layout = _layout(global_=5 if tokens is None else None, global_tokens=tokens)
    epochs = Epochs(np.array(lengths), layout, seed)

    counted = epochs.steps_of_run(Train(epochs=2.5))

    assert len(counted) == 3
    ends = np.cumsum(counted)
    progress = [epochs.rows(step)[1] for step in range(ends[-1])]
    assert progress == sorted(progress)
    assert [progress[end - 1] for end in ends] == [1.0, 2.0, 3.0]
    for epoch in range(3):
        assert sorted(_epoch(epochs, epoch)) == list(range(len(lengths)))


def test_a_step_is_found_whatever_was_asked_before() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 50)
    layout = _layout(global_=None, global_tokens=64)

    in_order = [Epochs(lengths, layout, 1).rows(step) for step in range(60)]
    backwards = Epochs(lengths, layout, 1)

    assert [backwards.rows(step) for step in reversed(range(60))] == in_order[::-1]


def test_steps_are_counted_no_further_than_the_run_goes() -> None:
    epochs = Epochs(np.ones(40, dtype=np.int64), _layout(global_=4), seed=0)

    assert epochs.steps_of_run(Train(epochs=1000, max_steps=25)) == (10, 10, 10)
