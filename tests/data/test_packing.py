from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.packing import (
    Layout,
    pack,
    packing_efficiency,
    pad,
    padding_waste,
    rank_balance,
    share_out,
    step_starts,
)

LONGEST = 12


def _layout(**changed: Any) -> Layout:
    return Layout(**{"global_": 4, "micro": 2, "packing": True, "micro_tokens": 2 * LONGEST, "pad": 0, **changed})


def _gsm8k_like(count: int = 2000) -> np.ndarray:
    """Lengths that are spread like those of short questions with worked answers: 221 tokens, from 90 to 553."""
    drawn = np.random.default_rng(0).gamma(12, 221 / 12, size=count)
    return np.clip(drawn, 90, 553).astype(np.int64)


_LENGTHS = st.lists(st.integers(1, LONGEST), min_size=1, max_size=40).map(np.array)
_LAYOUTS = st.builds(
    _layout,
    global_=st.integers(1, 16),
    micro=st.integers(1, 6),
    packing=st.booleans(),
    micro_tokens=st.integers(LONGEST, 4 * LONGEST),
)


@settings(deadline=None)
@given(lengths=_LENGTHS, layout=_LAYOUTS, ranks=st.integers(1, 4))
def test_each_row_is_in_one_group_within_the_room_and_ranks_have_equally_many(
    lengths: np.ndarray, layout: Layout, ranks: int
) -> None:
    rows = list(range(len(lengths)))

    shares = share_out(rows, lengths, layout, ranks)

    groups = [group for share in shares for group in share]
    assert len(shares) == ranks
    assert len({len(share) for share in shares}) == 1
    assert sorted(row for group in groups for row in group) == rows
    if layout.packing:
        assert all(sum(lengths[group]) <= layout.micro_tokens for group in groups if group)
    else:
        assert all(len(group) <= layout.micro for group in groups)


@settings(deadline=None)
@given(lengths=_LENGTHS, layout=_LAYOUTS, tokens=st.integers(LONGEST, 60))
def test_steps_of_tokens_hold_what_fits_and_not_one_example_less(
    lengths: np.ndarray, layout: Layout, tokens: int
) -> None:
    starts = step_starts(lengths, replace(layout, global_=None, global_tokens=tokens))

    assert (starts[0], starts[-1]) == (0, len(lengths))
    for start, end in pairwise(starts):
        assert 0 < sum(lengths[start:end]) <= tokens
        assert end == len(lengths) or sum(lengths[start : end + 1]) > tokens


def test_steps_of_examples_are_full_but_the_last() -> None:
    assert step_starts(np.ones(10, dtype=np.int64), _layout(global_=4)).tolist() == [0, 4, 8, 10]


def test_rows_are_filled_by_the_set_that_fits_best() -> None:
    # One best fit after the other makes 6 + 5 and 4 + 4 + 3, and needs a third row for 2.
    lengths = np.array([6, 5, 4, 4, 3, 2])

    groups = pack(list(range(6)), lengths, _layout(micro_tokens=12), 1)

    assert sorted(sum(lengths[group]) for group in groups) == [12, 12]


def test_a_packed_row_is_never_less_full_than_what_single_best_fits_reach() -> None:
    lengths = _gsm8k_like()

    layout = _layout(global_=None, global_tokens=65_536, micro_tokens=1024)

    assert packing_efficiency(lengths, layout, 1) >= 0.98
    assert packing_efficiency(lengths, replace(layout, global_tokens=16_384), 1) >= 0.97


def test_without_packing_examples_of_a_micro_batch_are_alike_in_length() -> None:
    lengths = np.array([9, 1, 8, 2, 7, 3])

    groups = pad(list(range(6)), lengths, _layout(packing=False, micro=2), 1)

    assert [lengths[group].tolist() for group in groups] == [[1, 2], [3, 7], [8, 9]]


def test_a_step_that_does_not_divide_is_spread_instead_of_leaving_a_rank_idle() -> None:
    lengths = np.array([5, 5, 5, 5, 5])

    shares = share_out(list(range(5)), lengths, _layout(packing=False, micro=2), 2)

    assert sorted(len(group) for share in shares for group in share) == [1, 1, 1, 2]


def test_ranks_share_tokens_and_not_rows() -> None:
    lengths = np.array([100, *[10] * 10])
    layout = _layout(global_=11, micro_tokens=1000)

    shares = share_out(list(range(11)), lengths, layout, 2)

    assert sorted(sorted(row for group in share for row in group) for share in shares) == [[0], list(range(1, 11))]


@pytest.mark.parametrize("packing", [True, False])
def test_ranks_compute_nearly_equal_positions(packing: bool) -> None:
    layout = _layout(global_=128, micro=4, packing=packing, micro_tokens=1024)

    assert rank_balance(_gsm8k_like(), layout, 4) >= 0.95
    assert rank_balance(_gsm8k_like(), layout, 1) == 1.0


def test_efficiency_counts_the_room_of_every_rank() -> None:
    lengths = np.array([6, 6, 6, 6])
    layout = _layout(global_=4, micro_tokens=12)

    assert packing_efficiency(lengths, layout, 1) == 1.0
    assert packing_efficiency(lengths, layout, 4) == 0.5


def test_waste_is_the_padding_of_what_is_computed() -> None:
    lengths = np.array([2, 4, 1, 3])
    layout = _layout(global_=2, micro=2, packing=False)

    # Rows of 4 and 4, then of 3 and 3: 14 positions for 10 tokens.
    assert padding_waste(lengths, layout) == pytest.approx(4 / 14)
    assert padding_waste(lengths, replace(layout, packing=True)) == 0.0


def test_sorting_within_a_step_keeps_the_waste_small() -> None:
    layout = _layout(global_=64, micro=4, packing=False)

    assert padding_waste(_gsm8k_like(), layout) <= 0.06
    # In steps of one micro-batch there is nothing to sort: what length grouping saves.
    assert padding_waste(_gsm8k_like(), replace(layout, global_=4)) >= 0.2
