from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config.train import Train
from trainer.data.batches import IGNORED, Ahead, Batch, Window, Windows, batch_of, targets_of
from trainer.data.encoded import Encoded
from trainer.data.packing import Layout
from trainer.data.split import Split

LONGEST = 12


def _split(lengths: list[int], seed: int = 0) -> Split:
    """Rows whose tokens name them: every token of row n is n + 1."""
    generator = np.random.default_rng(seed)
    return Split.of(
        [
            (np.full(length, row + 1, dtype=np.int32), generator.random(length) < 0.6)
            for row, length in enumerate(lengths)
        ]
    )


def _windows(split: Split, layout: Layout, ranks: int, seed: int | None = None) -> list[Windows]:
    return [Windows(split, layout, rank=rank, ranks=ranks, seed=seed) for rank in range(ranks)]


def _layout(**changed: Any) -> Layout:
    return Layout(**{"global_": 4, "micro": 2, "packing": True, "micro_tokens": 2 * LONGEST, "pad": 0, **changed})


def _examples(batch: Batch) -> list[tuple[list[int], list[int], list[int]]]:
    """Tokens, positions and targets of each example of a micro-batch."""
    if batch.tokens == 0:
        return []
    columns = (batch.input_ids, batch.position_ids, batch.targets)
    if batch.segments is not None:
        parts = [column[0].split(batch.segments) for column in columns]
    else:
        assert batch.attention_mask is not None
        lengths = [int(length) for length in batch.attention_mask.sum(dim=1)]
        parts = [[row[:length] for row, length in zip(column, lengths, strict=True)] for column in columns]
    return [(one.tolist(), two.tolist(), three.tolist()) for one, two, three in zip(*parts, strict=True)]


def _expected(split: Split, row: int) -> tuple[list[int], list[int], list[int]]:
    tokens = split.tokens(row)
    targets = targets_of(tokens, split.learned(row), [len(tokens)])
    return tokens.tolist(), list(range(len(tokens))), targets.tolist()


_LENGTHS = st.lists(st.integers(1, LONGEST), min_size=1, max_size=40)
_LAYOUTS = st.builds(
    _layout,
    global_=st.integers(1, 16),
    micro=st.integers(1, 6),
    packing=st.booleans(),
    micro_tokens=st.integers(LONGEST, 4 * LONGEST),
)


@settings(deadline=None)
@given(lengths=_LENGTHS, layout=_LAYOUTS, ranks=st.integers(1, 4), seed=st.none() | st.integers(0, 3))
def test_an_epoch_holds_every_example_once_whatever_the_layout(
    lengths: list[int], layout: Layout, ranks: int, seed: int | None
) -> None:
    split = _split(lengths)
    found = []

    for windows in zip(*_windows(split, layout, ranks, seed), strict=True):
        batches = [batch for window in windows for batch in window.batches]
        examples = [example for batch in batches for example in _examples(batch)]
        found += examples
        assert len({len(window.batches) for window in windows}) == 1, "each rank computes equally many micro-batches"
        assert {window.examples for window in windows} == {len(examples)}, "each rank knows the size of the step"
        assert sum(batch.tokens for batch in batches) == sum(len(tokens) for tokens, _, _ in examples)
        if layout.packing:
            assert all(batch.input_ids.numel() <= layout.micro_tokens for batch in batches)
        else:
            assert all(len(batch.input_ids) <= layout.micro for batch in batches)

    assert sorted(found) == sorted(_expected(split, row) for row in range(len(split)))


@settings(deadline=None)
@given(lengths=_LENGTHS, layout=_LAYOUTS, ranks=st.integers(2, 4), step=st.integers(0, 50))
def test_a_step_takes_the_same_examples_on_any_number_of_ranks(
    lengths: list[int], layout: Layout, ranks: int, step: int
) -> None:
    split = _split(lengths)
    (alone,), shared = _windows(split, layout, 1, seed=1), _windows(split, layout, ranks, seed=1)

    together = [example for windows in shared for batch in windows.window(step).batches for example in _examples(batch)]

    assert sorted(together) == sorted(example for batch in alone.window(step).batches for example in _examples(batch))


@settings(deadline=None)
@given(lengths=_LENGTHS, layout=_LAYOUTS, ranks=st.integers(1, 4))
def test_no_step_is_empty_and_all_but_the_last_are_full(lengths: list[int], layout: Layout, ranks: int) -> None:
    steps = [window.examples for window in _windows(_split(lengths), layout, ranks)[0]]

    assert steps[:-1] == [layout.global_] * (len(steps) - 1)
    assert 1 <= steps[-1] <= layout.global_


@pytest.mark.parametrize("packing", [True, False])
def test_a_spare_batch_runs_and_counts_nothing(packing: bool) -> None:
    layout = _layout(global_=1, packing=packing, pad=9)

    _, second = _windows(_split([5]), layout, 2)

    (spare,) = second.window(0).batches
    assert spare.tokens == 0
    assert spare.input_ids.tolist() == [[9]]
    assert bool((spare.targets == IGNORED).all())


def test_packed_examples_stand_end_to_end_with_positions_of_their_own() -> None:
    split = _split([3, 2])

    (window,) = _windows(split, _layout(), 1)[0]

    (batch,) = window.batches
    assert batch.input_ids.tolist() == [[1, 1, 1, 2, 2]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1]]
    assert (batch.segments, batch.attention_mask, batch.tokens) == ((3, 2), None, 5)


def test_padded_rows_are_filled_on_the_right() -> None:
    split = _split([3, 1])

    (window,) = _windows(split, _layout(packing=False, pad=9), 1)[0]

    (batch,) = window.batches
    assert batch.input_ids.tolist() == [[2, 9, 9], [1, 1, 1]]
    assert batch.attention_mask is not None
    assert batch.attention_mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch.position_ids.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert batch.targets[0].tolist() == [IGNORED] * 3
    assert (batch.segments, batch.tokens) == (None, 4)


def test_packed_rows_are_as_few_as_the_tokens_need_and_even_in_size() -> None:
    split = _split([12, 8, 8, 4, 4, 4, 4, 4])

    (window,) = _windows(split, _layout(global_=8), 1)[0]

    assert [batch.tokens for batch in window.batches] == [24, 24]


def test_padded_micro_batches_hold_rows_of_like_length_and_begin_with_the_longest() -> None:
    split = _split([5, 1, 4, 2, 3, 3])

    (window,) = _windows(split, _layout(global_=6, packing=False), 1)[0]

    assert [[row[0] for row in batch.input_ids.tolist()] for batch in window.batches] == [[3, 1], [5, 6], [2, 4]]


def test_each_epoch_has_its_own_order_and_the_seed_alone_decides_it() -> None:
    split = _split([1] * 40)
    layout = _layout(global_=40)

    def orders(seed: int | None) -> list[list[int]]:
        (windows,) = _windows(split, layout, 1, seed)
        return [windows.epochs.rows(step)[0] for step in range(3)]

    assert orders(0) == orders(0)
    assert len({tuple(order) for order in [*orders(0), *orders(1)]}) == 6
    assert orders(None) == [list(range(40))] * 3


def test_epochs_see_rows_as_often_as_the_weight_of_their_source_says() -> None:
    split = _split([3] * 10)
    windows = Windows(split, _layout(), rank=0, ranks=1, seed=0, weights=[1.5])

    epochs = [[windows.window(step) for step in steps] for steps in (range(4), range(4, 8))]

    seen = [_examples(batch) for made in epochs for window in made for batch in window.batches]
    assert sorted(example for examples in seen for example in examples) == sorted(
        3 * [_expected(split, row) for row in range(10)]
    )
    assert [made[-1].epoch for made in epochs] == [1.0, 2.0]


def test_a_step_is_the_same_whether_or_not_the_ones_before_were_read() -> None:
    split = _split([1] * 10)
    (read,), (fresh,) = _windows(split, _layout(), 1, seed=5), _windows(split, _layout(), 1, seed=5)

    in_order = [read.epochs.rows(step) for step in range(9)]

    assert [fresh.epochs.rows(step) for step in reversed(range(9))] == in_order[::-1]


def _same(one: Window, other: Window) -> bool:
    tensors = [[_examples(batch) for batch in window.batches] for window in (one, other)]
    return tensors[0] == tensors[1] and one.epoch == other.epoch


def test_steps_made_ahead_are_the_same_also_when_one_is_asked_for_again_or_passed_over() -> None:
    (windows,) = _windows(_split([3] * 20), _layout(), 1, seed=5)
    (plain,) = _windows(_split([3] * 20), _layout(), 1, seed=5)
    ahead = Ahead(windows)

    asked = [0, 0, 1, 2, 7, 3]

    assert all(_same(ahead.window(step), plain.window(step)) for step in asked)
    assert ahead.steps_of_run(Train(epochs=2)) == (5, 5)
    ahead.close()


def test_what_fails_ahead_fails_when_it_is_asked_for() -> None:
    split = _split([3] * 8)
    (windows,) = _windows(split, _layout(), 1)
    ahead = Ahead(windows)
    ahead.window(0)

    windows.layout = _layout(micro_tokens=2)

    with pytest.raises(AssertionError, match="an example is longer than a row"):
        for step in range(1, 4):
            ahead.window(step)
    ahead.close()


def test_a_position_predicts_the_next_token_where_that_is_learned() -> None:
    tokens = np.array([5, 6, 7, 8], dtype=np.int32)
    learned = np.array([True, False, True, True])

    # The first token is learned too, but nothing stands before it to predict it.
    assert targets_of(tokens, learned, [4]).tolist() == [IGNORED, 7, 8, IGNORED]


def test_the_end_of_an_example_does_not_predict_the_beginning_of_the_next() -> None:
    learned = np.array([True] * 4)

    assert targets_of(np.array([5, 6, 7, 8]), learned, [2, 2]).tolist() == [6, IGNORED, 8, IGNORED]


def test_a_single_token_predicts_nothing() -> None:
    assert targets_of(np.array([5]), np.array([True]), [1]).tolist() == [IGNORED]


@pytest.mark.parametrize("packing", [True, False])
def test_a_batch_moves_whole_to_a_device(packing: bool) -> None:
    (window,) = _windows(_split([3, 2]), _layout(packing=packing), 1)[0]

    moved = window.batches[0].to(torch.device("meta"))

    tensors = [moved.input_ids, moved.position_ids, moved.targets, moved.attention_mask]
    assert {tensor.device.type for tensor in tensors if tensor is not None} == {"meta"}
    assert (moved.segments, moved.tokens) == (window.batches[0].segments, 5)


@pytest.mark.parametrize("packing", [True, False])
def test_the_beginning_of_a_batch_holds_its_first_examples_cut(packing: bool) -> None:
    layout = Layout(global_=3, micro=3, packing=packing, micro_tokens=64, pad=0)
    rows = [Encoded(np.arange(1, size + 1, dtype=np.int32), np.ones(size, dtype=np.bool_)) for size in (5, 2, 7)]
    few = batch_of(rows, layout).beginning(2, 3)
    assert few.tokens == 5
    if packing:
        assert few.segments == (3, 2)
        assert few.input_ids.tolist() == [[1, 2, 3, 1, 2]]
        assert few.position_ids.tolist() == [[0, 1, 2, 0, 1]]
    else:
        assert few.attention_mask is not None
        assert few.input_ids.tolist() == [[1, 2, 3], [1, 2, 0]]
        assert few.attention_mask.tolist() == [[1, 1, 1], [1, 1, 0]]
