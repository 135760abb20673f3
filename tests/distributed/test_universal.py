"""A checkpoint of one engine on some ranks goes on with another engine on other ranks, losing nothing."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from distributed import trajectory
from distributed.alone import as_only_rank
from distributed.pair import Pair

TORCH: dict[str, Any] = {"kind": "torch"}


def zero(stage: int) -> dict[str, Any]:
    return {"kind": "deepspeed", "zero": stage}


@cache
def uninterrupted() -> list[float]:
    """Steps 6 to 10 of a run that was never stopped."""
    return trajectory.losses(TORCH).losses[5:]


def on(pair: Pair, ranks: int, function: Any, *arguments: Any) -> Any:
    return function(*arguments) if ranks == 1 else pair.run(function, *arguments)[0]


@pytest.mark.parametrize(
    ("before", "ranks", "after", "ranks_after"),
    [
        (zero(2), 2, zero(2), 1),
        pytest.param(zero(2), 1, zero(2), 2, marks=pytest.mark.slow),
        (zero(2), 2, zero(1), 2),
        pytest.param(zero(2), 2, zero(3), 2, marks=pytest.mark.slow),
        pytest.param(zero(3), 2, zero(1), 1, marks=pytest.mark.slow),
        pytest.param(zero(3), 1, zero(3), 2, marks=pytest.mark.slow),
        pytest.param(zero(1), 2, zero(0), 1, marks=pytest.mark.slow),
        pytest.param(zero(0), 2, zero(3), 1, marks=pytest.mark.slow),
        (TORCH, 1, zero(2), 2),
        (zero(3), 2, TORCH, 1),
    ],
    ids=str,
)
def test_other_shards_go_on_after_a_conversion(
    pair: Pair,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    before: dict[str, Any],
    ranks: int,
    after: dict[str, Any],
    ranks_after: int,
) -> None:
    as_only_rank(monkeypatch)
    on(pair, ranks, trajectory.interrupted, before, str(tmp_path))

    losses, said = on(pair, ranks_after, trajectory.resumed, after, str(tmp_path))

    assert losses == pytest.approx(uninterrupted(), rel=1e-5, abs=0)
    assert said[0].startswith("Converting step-00000005 of ")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000005"]


@pytest.mark.parametrize("engine", [TORCH, zero(2), zero(3)], ids=str)
def test_the_same_shards_go_on_directly(pair: Pair, tmp_path: Path, engine: dict[str, Any]) -> None:
    pair.run(trajectory.interrupted, engine, str(tmp_path))

    (losses, said), _ = pair.run(trajectory.resumed, engine, str(tmp_path))

    assert losses == pytest.approx(uninterrupted(), rel=1e-5, abs=0)
    assert said == []


SLOW = [pytest.param(stage, marks=pytest.mark.slow) for stage in (0, 1)]
"""Stages that share code with those that are always tried."""


@pytest.mark.parametrize("stage", [*SLOW, 2, 3])
def test_a_bfloat16_run_keeps_its_masters_through_a_conversion(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stage: int
) -> None:
    as_only_rank(monkeypatch)
    expected = trajectory.losses(TORCH, "bfloat16").losses[5:]
    trajectory.interrupted(TORCH, str(tmp_path), "bfloat16")

    (losses, _), _ = pair.run(trajectory.resumed, zero(stage), str(tmp_path), "bfloat16")

    assert losses == pytest.approx(expected, rel=5e-4, abs=0)


@pytest.mark.parametrize("stage", [*SLOW, 2, 3])
def test_a_trained_engine_goes_back_to_an_earlier_checkpoint(pair: Pair, tmp_path: Path, stage: int) -> None:
    there_and_back = pair.run(trajectory.back, zero(stage), str(tmp_path))[0]

    assert there_and_back["again"] == pytest.approx(there_and_back["first"], rel=1e-6, abs=0)
