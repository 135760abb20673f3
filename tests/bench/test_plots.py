import pytest
from bench.made import failed, of, run, suite

from trainer.bench import plots

A, B = [run(1000.0), run(1010.0), run(1020.0)], [run(500.0), run(505.0), run(510.0)]


def test_bars_are_as_long_as_their_rates() -> None:
    first, second = plots.bars(of(suite(), [A, B])["rows"], lambda row: row["tokens_per_second"], "rate")

    assert first.length == pytest.approx(2 * second.length, abs=0.1)
    assert first.low is not None and first.high is not None
    assert first.low < first.length < first.high <= plots.WIDTH - plots.NAMES - plots.END
    assert (first.text, second.y) == ("1,010 ±2%", plots.BAR)


def test_rows_that_failed_have_no_bar() -> None:
    rows = of(suite(), [A, [failed()]])["rows"]

    assert [bar.name for bar in plots.bars(rows, lambda row: row["memory"]["peak"], "size")] == ["a"]


def test_the_front_holds_what_no_row_beats_in_both() -> None:
    own = suite(variants={"fast": None, "small": None, "beaten": None, "failed": None}, reference=None)
    runs = [[run(1000.0, memory=900)], [run(500.0, memory=500)], [run(400.0, memory=800)], [failed()]]

    plot = plots.pareto(of(own, runs)["rows"])

    assert plot is not None
    assert {point.number: point.best for point in plot.points} == {1: True, 2: True, 3: False}
    fast, small, _ = plot.points
    assert plot.line == f"{small.x},{small.y} {fast.x},{fast.y}"
    assert small.x < fast.x
    assert fast.y < small.y
    assert [tick.text for tick in plot.x] == ["500 MiB", "600 MiB", "700 MiB", "800 MiB", "900 MiB"]


def test_one_row_has_no_front() -> None:
    assert plots.pareto(of(suite(), [A, [failed()]])["rows"]) is None


def test_growth_is_drawn_by_its_sizes_and_its_line() -> None:
    sweep = {"values": [1, 2, 4], "keys": ["batch.micro"], "fits": {"seconds_per_token": 0.5}}
    own = suite(variants={}, reference=None, sweeps={"size": sweep})
    (entry,) = of(own, [[run(1000.0 / size)] * 2 for size in (1, 2, 4)])["growth"]

    plot = plots.growth(entry, "seconds a token")

    assert plot is not None
    assert [tick.text for tick in plot.x] == ["1", "2", "4"]
    assert len(plot.points) == 6
    assert len(plot.line.split()) == 3
    assert plot.note.startswith("Grows as size to the power of 1 ± ")
    assert plot.note.endswith("; at most 0.5; faster than the theory says.")


def test_equal_values_have_an_axis_too() -> None:
    plot = plots.pareto(of(suite(), [A, A])["rows"])

    assert plot is not None
    assert len(plot.points) == 2
