"""The gradient of a step over a knowledge graph is the same however its rows are split: negatives are of all ranks."""

import pytest
from distributed import linked
from distributed.pair import Pair
from distributed.test_loss_rule import SPLITS, difference

ENGINES = [("torch", 0), ("deepspeed", 2), ("deepspeed", 3)]


@pytest.mark.parametrize("micro", SPLITS)
@pytest.mark.parametrize("encoder", ["bi", "cross"])
def test_one_rank_gives_the_gradient_of_one_large_batch(encoder: str, micro: int) -> None:
    ours = linked.gradient(encoder, "torch", 0, micro, rows=16, global_=16, step=0)
    assert difference(ours, linked.reference(encoder, 16, 0, 16)) <= 1e-5


@pytest.mark.parametrize("encoder", ["bi", "cross"])
@pytest.mark.parametrize(("kind", "zero"), ENGINES)
def test_two_ranks_give_the_gradient_of_one_large_batch(pair: Pair, kind: str, zero: int, encoder: str) -> None:
    results = pair.run(linked.gradient, encoder, kind, zero, 4, 16, 16, 0)
    expected = linked.reference(encoder, 16, 0, 16)
    assert max(difference(result, expected) for result in results) <= 1e-5


@pytest.mark.parametrize("encoder", ["bi", "cross"])
@pytest.mark.parametrize(("kind", "zero"), ENGINES)
def test_a_short_last_window_counts_only_its_own_rows(pair: Pair, kind: str, zero: int, encoder: str) -> None:
    results = pair.run(linked.gradient, encoder, kind, zero, 2, 19, 16, 1)
    expected = linked.reference(encoder, 19, 16, 3)
    assert max(difference(result, expected) for result in results) <= 1e-5
