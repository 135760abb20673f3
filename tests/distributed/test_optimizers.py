"""What an optimizer keeps of weights and moments means the same on every engine, and is saved with them."""

from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from distributed import trajectory
from distributed.alone import as_only_rank
from distributed.pair import Pair

from trainer.errors import RunError

TORCH: dict[str, Any] = {"kind": "torch"}
WAYS: dict[str, dict[str, Any]] = {
    "kahan": {"master": "kahan"},
    "stochastic": {"master": "stochastic"},
    "8bit": {"kind": "adamw_8bit"},
    "8bit kahan": {"kind": "adamw_8bit", "master": "kahan"},
    "lion": {"kind": "lion", "lr": 3e-4},
    "sgd": {"kind": "sgd", "lr": 0.1},
    "muon": {"kind": "muon"},
    "galore": {"kind": "galore", "galore": {"rank": 4, "every": 3, "scale": 1.0}},
    "adafactor": {"kind": "adafactor"},
    "paged": {"paged": True},
    "in_backward": {"in_backward": True},
    "in_backward stochastic": {"in_backward": True, "master": "stochastic"},
}
SHARED = ["kahan", "stochastic", "8bit", "8bit kahan", "lion", "sgd"]
"""Those that DeepSpeed can share out."""


def quick(ways: Iterable[str]) -> list[Any]:
    """The ways, those that are like another one in the slow tests."""
    like = ("sgd", "galore", "adafactor", "paged")
    return [pytest.param(way, marks=pytest.mark.slow) if way in like else way for way in ways]


@cache
def alone(way: str) -> trajectory.Losses:
    """Ten steps of plain torch on one process."""
    return trajectory.losses(TORCH, "bfloat16", **WAYS[way])


def difference(ours: trajectory.Losses, theirs: trajectory.Losses) -> float:
    assert len(ours.losses) == len(theirs.losses) == 10
    return max(abs(one - other) / abs(other) for one, other in zip(ours.losses, theirs.losses, strict=True))


@pytest.mark.parametrize("way", WAYS)
def test_two_replicas_have_the_losses_of_one(pair: Pair, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    as_only_rank(monkeypatch)

    first, second = pair.run(partial(trajectory.losses, **WAYS[way]), TORCH, "bfloat16")

    assert first.losses == second.losses
    assert difference(first, alone(way)) < 1e-3


@pytest.mark.parametrize("zero", [1, 2, 3])
@pytest.mark.parametrize("way", quick(SHARED))
def test_shares_have_the_losses_of_plain_torch(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, way: str, zero: int
) -> None:
    as_only_rank(monkeypatch)
    engine = {"kind": "deepspeed", "zero": zero}

    first, _ = pair.run(partial(trajectory.losses, **WAYS[way]), engine, "bfloat16")

    assert difference(first, alone(way)) < 2e-3


@pytest.mark.parametrize("engine", [TORCH, *({"kind": "deepspeed", "zero": zero} for zero in (1, 2, 3))], ids=str)
@pytest.mark.parametrize("way", quick(WAYS))
def test_a_resumed_run_goes_on_bit_by_bit(pair: Pair, tmp_path: Path, way: str, engine: dict[str, Any]) -> None:
    if engine["kind"] == "deepspeed" and way not in SHARED:
        pytest.skip("refused before the start")
    options = WAYS[way]
    whole, _ = pair.run(partial(trajectory.losses, **options), engine, "bfloat16")
    pair.run(partial(trajectory.interrupted, **options), engine, str(tmp_path), "bfloat16")

    (losses, said), _ = pair.run(partial(trajectory.resumed, **options), engine, str(tmp_path), "bfloat16")

    assert losses == whole.losses[5:]
    assert said == []


@pytest.mark.parametrize("way", SHARED)
def test_plain_torch_goes_on_with_other_processes(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    as_only_rank(monkeypatch)
    options = WAYS[way]
    trajectory.interrupted(TORCH, str(tmp_path), "bfloat16", **options)

    (losses, _), _ = pair.run(partial(trajectory.resumed, **options), TORCH, str(tmp_path), "bfloat16")

    expected = alone(way).losses[5:]
    assert max(abs(one - other) / other for one, other in zip(losses, expected, strict=True)) < 1e-3


@pytest.mark.parametrize("way", ["kahan", "stochastic"])
def test_deepspeed_goes_on_from_plain_torch(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    as_only_rank(monkeypatch)
    trajectory.interrupted(TORCH, str(tmp_path), "bfloat16", **WAYS[way])
    engine = {"kind": "deepspeed", "zero": 2}

    (losses, _), _ = pair.run(partial(trajectory.resumed, **WAYS[way]), engine, str(tmp_path), "bfloat16")

    expected = alone(way).losses[5:]
    assert max(abs(one - other) / other for one, other in zip(losses, expected, strict=True)) < 2e-3


@pytest.mark.parametrize("way", ["lion", "sgd"])
@pytest.mark.parametrize("saved", [TORCH, {"kind": "deepspeed", "zero": 2}], ids=str)
def test_moments_that_are_not_adams_go_on_in_their_layout(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str, saved: dict[str, Any]
) -> None:
    as_only_rank(monkeypatch)
    pair.run(partial(trajectory.interrupted, **WAYS[way]), saved, str(tmp_path), "bfloat16")
    other = {"kind": "deepspeed", "zero": 1} if saved is TORCH else TORCH

    with pytest.raises(RunError, match="only Adam's moments go from one to another; set engine and processes back"):
        trajectory.resumed(other, str(tmp_path), "bfloat16", **WAYS[way])


def test_8_bit_moments_that_were_shared_out_are_not_shared_out_otherwise(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    as_only_rank(monkeypatch)
    pair.run(
        partial(trajectory.interrupted, **WAYS["8bit"]), {"kind": "deepspeed", "zero": 2}, str(tmp_path), "bfloat16"
    )

    with pytest.raises(RunError, match="8-bit moments that DeepSpeed shares out go on with the same processes"):
        trajectory.resumed(TORCH, str(tmp_path), "bfloat16", **WAYS["8bit"])
