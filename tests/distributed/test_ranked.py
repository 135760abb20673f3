"""The gradient of a reranker's step is the same however its queries are split."""

import pytest
from distributed import ranked
from distributed.pair import Pair
from distributed.test_loss_rule import SPLITS, difference

ENGINES = [("torch", 0), ("deepspeed", 2), ("deepspeed", 3)]
LOSSES = ["pointwise", "pairwise", "listwise"]


@pytest.mark.parametrize("micro", SPLITS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_one_rank_gives_the_gradient_of_the_plain_loop(family: str, loss: str, micro: int) -> None:
    ours = ranked.gradient(family, loss, "torch", 0, micro, rows=16, global_=16, step=0)
    assert difference(ours, ranked.reference(family, loss, 16, 0, 16)) <= 1e-5


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("kind", "zero"), ENGINES)
def test_two_ranks_give_the_gradient_of_the_plain_loop(pair: Pair, kind: str, zero: int, loss: str) -> None:
    results = pair.run(ranked.gradient, "bert", loss, kind, zero, 4, 16, 16, 0)
    expected = ranked.reference("bert", loss, 16, 0, 16)
    assert max(difference(result, expected) for result in results) <= 1e-5


@pytest.mark.parametrize(("kind", "zero"), ENGINES)
def test_a_short_last_window_counts_only_its_own_rows(pair: Pair, kind: str, zero: int) -> None:
    results = pair.run(ranked.gradient, "llama", "pairwise", kind, zero, 2, 19, 16, 1)
    expected = ranked.reference("llama", "pairwise", 19, 16, 3)
    assert max(difference(result, expected) for result in results) <= 1e-5
