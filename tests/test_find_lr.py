"""What a range test reads from its figures."""

import json
import math
from pathlib import Path

import pytest

from trainer import find_lr
from trainer.errors import RunError


def write(path: Path, losses: list[float | None]) -> Path:
    lines = [
        {"split": "train", "lr": 10.0 ** (at * 8 / 119 - 7), "loss": loss} for at, loss in enumerate(losses, start=1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in [{"split": "validation", "loss": 9.0}, *lines]))
    return path


def valley() -> list[float | None]:
    """Flat, a fall between 1e-4 and 1e-2, and an explosion from 1 on."""
    rates = [10.0 ** (at * 8 / 119 - 7) for at in range(1, 121)]
    return [2.0 - 1.0 / (1.0 + (1e-3 / rate) ** 2) + max(0.0, rate - 1.0) ** 2 for rate in rates]


def test_the_rate_is_near_the_fall(tmp_path: Path) -> None:
    found = find_lr.read(write(tmp_path / "metrics.jsonl", valley()))

    assert found.falls
    assert 1e-3 < found.rates[found.steepest] < 1e-2  # an exponential mean lags behind
    assert 0.1 < found.rates[found.lowest] <= 1.5
    assert found.suggested == pytest.approx(math.sqrt(found.rates[found.steepest] * found.most))
    assert found.shown[-1] < 119 and found.lowest in found.shown
    assert f"Suggested: optimizer.lr: {found.suggested:.1e}" in str(found)


def test_the_table_marks_both_steps(tmp_path: Path) -> None:
    found = find_lr.read(write(tmp_path / "metrics.jsonl", valley()))

    lines = find_lr.table(found).splitlines()

    assert [line.split()[0] for line in lines if line.endswith("falls fastest")] == [
        f"{found.rates[found.steepest]:.1e}"
    ]
    assert [line.split()[0] for line in lines if line.endswith("lowest")] == [f"{found.rates[found.lowest]:.1e}"]
    assert len(lines) <= 20 and max(map(len, lines)) < 80


def test_nothing_is_suggested_where_no_rate_helps(tmp_path: Path) -> None:
    found = find_lr.read(write(tmp_path / "metrics.jsonl", [2.0 + 0.001 * at for at in range(120)]))

    assert str(found) == "No rate lets the loss fall in so few steps: nothing is suggested."


def test_what_comes_after_a_loss_that_is_no_number_does_not_count(tmp_path: Path) -> None:
    found = find_lr.read(write(tmp_path / "metrics.jsonl", [*valley()[:90], None, 1.0, 0.0]))

    assert len(found.losses) == 90


def test_too_few_steps_say_nothing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the loss exploded in 7 steps, of which nothing can be learned"):
        find_lr.read(write(tmp_path / "metrics.jsonl", valley()[:7]))
