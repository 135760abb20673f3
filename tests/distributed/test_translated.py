"""The gradient of an encoder-decoder's step is the same however its rows are split."""

import pytest
from distributed import translated
from distributed.pair import Pair
from distributed.test_loss_rule import SPLITS, difference

ENGINES = [("torch", 0), ("deepspeed", 2), ("deepspeed", 3)]


@pytest.mark.parametrize("micro", SPLITS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("family", ["t5", "bart", "marian"])
def test_one_rank_gives_the_gradient_of_the_plain_loop(family: str, smoothing: float, micro: int) -> None:
    ours = translated.gradient(family, smoothing, "torch", 0, micro, rows=16, global_=16, step=0)
    assert difference(ours, translated.reference(family, smoothing, 16, 0, 16)) <= 1e-5


@pytest.mark.parametrize("family", ["t5", "bart"])
@pytest.mark.parametrize(("kind", "zero"), ENGINES)
def test_two_ranks_give_the_gradient_of_the_plain_loop(pair: Pair, kind: str, zero: int, family: str) -> None:
    results = pair.run(translated.gradient, family, 0.1, kind, zero, 4, 16, 16, 0)
    expected = translated.reference(family, 0.1, 16, 0, 16)
    assert max(difference(result, expected) for result in results) <= 1e-5


@pytest.mark.parametrize(("kind", "zero"), ENGINES)
def test_a_short_last_window_counts_only_its_own_rows(pair: Pair, kind: str, zero: int) -> None:
    results = pair.run(translated.gradient, "t5", 0.0, kind, zero, 2, 19, 16, 1)
    expected = translated.reference("t5", 0.0, 19, 16, 3)
    assert max(difference(result, expected) for result in results) <= 1e-5
