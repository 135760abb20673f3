"""The gradient of one step is the same however its rows are split: the first promise of the project."""

import numpy as np
import pytest
from distributed import steps
from distributed.pair import Pair

SPLITS = [1, 4, 16]


def difference(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    """The norm of the difference over the norm, all parameters together."""
    assert ours.keys() == theirs.keys()
    gap = sum(float(((ours[name] - theirs[name]) ** 2).sum()) for name in theirs)
    size = sum(float((theirs[name] ** 2).sum()) for name in theirs)
    return float(np.sqrt(gap / size))


@pytest.mark.parametrize("micro", SPLITS)
@pytest.mark.parametrize("packing", [True, False])
def test_one_rank_gives_the_gradient_of_the_plain_loop(packing: bool, micro: int) -> None:
    result = steps.gradient("torch", 0, packing, micro, rows=16, global_=16, step=0)
    assert difference(result["gradients"], steps.reference(16, 0, 16)) <= 1e-5


@pytest.mark.parametrize("micro", SPLITS)
@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize(
    ("kind", "zero"), [("torch", 0), ("deepspeed", 0), ("deepspeed", 1), ("deepspeed", 2), ("deepspeed", 3)]
)
def test_two_ranks_give_the_gradient_of_the_plain_loop(
    pair: Pair, kind: str, zero: int, packing: bool, micro: int
) -> None:
    results = pair.run(steps.gradient, kind, zero, packing, micro, 16, 16, 0)
    expected = steps.reference(16, 0, 16)
    assert [difference(result["gradients"], expected) <= 1e-5 for result in results] == [True, True]


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize(("kind", "zero"), [("torch", 0), ("deepspeed", 2), ("deepspeed", 3)])
def test_a_short_last_window_counts_only_its_own_rows(pair: Pair, kind: str, zero: int, packing: bool) -> None:
    results = pair.run(steps.gradient, kind, zero, packing, 4, 19, 16, 1)
    expected = steps.reference(19, 16, 3)
    assert [difference(result["gradients"], expected) <= 1e-5 for result in results] == [True, True]
    assert results[0]["batches"] == results[1]["batches"]


@pytest.mark.parametrize("recomputed", ["full", "selective"])
@pytest.mark.parametrize(("kind", "zero"), [("torch", 0), ("deepspeed", 1), ("deepspeed", 2), ("deepspeed", 3)])
def test_activation_checkpointing_changes_no_bit_on_any_engine(
    pair: Pair, kind: str, zero: int, recomputed: str
) -> None:
    plain = pair.run(steps.gradient, kind, zero, True, 4, 16, 16, 0)
    results = pair.run(steps.gradient, kind, zero, True, 4, 16, 16, 0, recomputed)
    for one, other in zip(plain, results, strict=True):
        assert one["loss"] == other["loss"]
        assert difference(other["gradients"], one["gradients"]) == 0.0
