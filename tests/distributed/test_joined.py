"""The gradient of a step over entities and relations is the same however its rows are split."""

import pytest
from distributed import joined
from distributed.pair import Pair
from distributed.test_loss_rule import SPLITS, difference

ENGINES = [("torch", 0), ("deepspeed", 2), ("deepspeed", 3)]


@pytest.mark.parametrize("micro", SPLITS)
def test_one_rank_gives_the_gradient_of_the_plain_loop(micro: int) -> None:
    ours = joined.gradient("torch", 0, micro, rows=16, global_=16, step=0)
    assert difference(ours, joined.reference(16, 0, 16)) <= 1e-5


@pytest.mark.parametrize(("kind", "zero"), ENGINES)
def test_two_ranks_give_the_gradient_of_the_plain_loop(pair: Pair, kind: str, zero: int) -> None:
    results = pair.run(joined.gradient, kind, zero, 4, 16, 16, 0)
    expected = joined.reference(16, 0, 16)
    assert max(difference(result, expected) for result in results) <= 1e-5


@pytest.mark.parametrize(("kind", "zero"), ENGINES)
def test_a_short_last_window_counts_only_its_own_rows(pair: Pair, kind: str, zero: int) -> None:
    results = pair.run(joined.gradient, kind, zero, 2, 19, 16, 1)
    expected = joined.reference(19, 16, 3)
    assert max(difference(result, expected) for result in results) <= 1e-5
