"""What trains is told from what does not, in every engine."""

import pytest
from distributed import audited
from distributed.pair import Pair

ENGINES = [
    ("torch", 0),
    pytest.param("deepspeed", 0, marks=pytest.mark.slow),
    pytest.param("deepspeed", 1, marks=pytest.mark.slow),
    ("deepspeed", 2),
    ("deepspeed", 3),
]
MASTERS = [("float32", "float32"), ("float32", "bfloat16"), ("kahan", "bfloat16"), ("stochastic", "bfloat16")]
UP = "model.model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize(("master", "dtype"), [*MASTERS, ("none", "bfloat16")])
def test_a_sound_run_is_left_alone(master: str, dtype: str) -> None:
    assert audited.run("torch", 0, "", master, dtype) == ("", [])


@pytest.mark.parametrize(("kind", "zero"), ENGINES)
def test_a_sound_run_on_two_ranks_is_left_alone(pair: Pair, kind: str, zero: int) -> None:
    assert pair.run(audited.run, kind, zero, "") == [("", [])] * 2


@pytest.mark.parametrize(("kind", "zero"), ENGINES)
def test_a_frozen_weight_that_changes_on_one_rank_ends_the_run_on_all(pair: Pair, kind: str, zero: int) -> None:
    for found, _ in pair.run(audited.run, kind, zero, "decayed"):
        assert found.startswith(f"{UP} should rest and changed in step 1; that is a fault of the engine")


def test_a_weight_without_a_gradient_ends_the_run() -> None:
    found, _ = audited.run("torch", 0, "unused")

    assert found.startswith("model.unused.weight, model.unused.bias should train and did not change in 20 steps")
    assert found.endswith("freeze it by `strategy`, or set train.audit: false")


@pytest.mark.parametrize(("kind", "zero"), [("deepspeed", 2), ("deepspeed", 3)])
def test_a_weight_without_a_gradient_ends_the_run_on_all_ranks(pair: Pair, kind: str, zero: int) -> None:
    for found, _ in pair.run(audited.run, kind, zero, "unused"):
        assert found.startswith("model.unused.weight, model.unused.bias should train")
