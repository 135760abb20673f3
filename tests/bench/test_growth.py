from typing import Any

import pytest
from bench.made import failed, of, run, suite

SWEEP: dict[str, Any] = {"values": [1, 2, 4], "keys": ["batch.micro"]}


def _grown(runs: list[list[dict[str, Any]]], **fits: float) -> list[dict[str, Any]]:
    own = suite(variants={}, reference=None, sweeps={"size": {**SWEEP, "fits": fits}})
    return list(of(own, runs)["growth"])


def test_the_exponent_is_that_of_the_measure() -> None:
    # Twice as large: half as fast, and 1.5 times the memory above imports.
    runs = [[run(1000 / size, memory=400 + round(100 * 1.5**power))] * 2 for power, size in enumerate([1, 2, 4])]

    time, memory = _grown(runs, seconds_per_token=1.0, memory_above_imports=0.1)

    assert time["fit"]["exponent"]["mean"] == pytest.approx(1.0)
    assert time["faster"] is False
    assert memory["fit"]["exponent"]["mean"] == pytest.approx(0.585, abs=1e-3)
    assert memory["faster"] is True
    assert len(memory["points"]) == 6


def test_processor_time_and_steps_are_fitted_too() -> None:
    runs = [[run(1000 / size)] * 2 for size in (1, 2, 4)]

    found = _grown(runs, processor_seconds_per_token=1.0, seconds_per_step=1.0, startup_seconds=0.0, peak_memory=0.0)

    assert [entry["fit"]["exponent"]["mean"] for entry in found] == pytest.approx([1.0, 1.0, 0.0, 0.0])


def test_rows_that_failed_are_left_out() -> None:
    (entry,) = _grown([[run(1000.0)], [failed()], [run(250.0)]], seconds_per_token=1.0)

    assert [size for size, _ in entry["points"]] == [1, 4]
    assert entry["fit"]["exponent"]["low"] is None
    assert entry["faster"] is None


def test_one_size_has_no_fit() -> None:
    (entry,) = _grown([[run(1000.0)], [failed()], [failed()]], seconds_per_token=1.0)

    assert entry["fit"] is None
