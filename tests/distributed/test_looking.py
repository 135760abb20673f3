"""The gradient of a step of a model that sees is the same however its rows are split."""

import pytest
from distributed import looking
from distributed.pair import Pair
from distributed.test_loss_rule import SPLITS, difference

ENGINES = [("torch", 0), ("deepspeed", 2), ("deepspeed", 3)]


@pytest.mark.parametrize("micro", SPLITS)
def test_one_rank_gives_the_gradient_of_the_plain_loop(micro: int) -> None:
    ours = looking.gradient("torch", 0, micro, rows=16, global_=16, step=0)
    assert difference(ours, looking.reference(16, 0, 16)) <= 1e-5


@pytest.mark.parametrize(("kind", "zero"), ENGINES)
def test_two_ranks_give_the_gradient_of_the_plain_loop(pair: Pair, kind: str, zero: int) -> None:
    # Micro-batches of one row: some see no image, and the others' ranks wait for them.
    results = pair.run(looking.gradient, kind, zero, 1, 16, 16, 0)
    expected = looking.reference(16, 0, 16)
    assert max(difference(result, expected) for result in results) <= 1e-5


@pytest.mark.parametrize(("kind", "zero"), ENGINES)
def test_a_short_last_window_counts_only_its_own_rows(pair: Pair, kind: str, zero: int) -> None:
    results = pair.run(looking.gradient, kind, zero, 2, 19, 16, 1)
    expected = looking.reference(19, 16, 3)
    assert max(difference(result, expected) for result in results) <= 1e-5
