from typing import Any

from bench.made import failed, of, run, suite

from trainer.bench.compare import Comparison, compare


def _rows(*rates: float, memory: int = 600) -> list[dict[str, Any]]:
    return [run(rate, memory=memory) for rate in rates]


STEADY, SLOWER = _rows(1000.0, 1004.0, 997.0), _rows(900.0, 905.0, 897.0)


def _verdicts(comparison: Comparison, row: str) -> dict[str, str]:
    return {one.measure: one.verdict for one in comparison.differences if one.row == row}


def _compared(before: list[dict[str, Any]], after: list[dict[str, Any]], threshold: float = 0.05) -> Comparison:
    return compare(of(suite(), [STEADY, before]), of(suite(), [STEADY, after]), threshold)


def test_a_difference_beyond_noise_and_threshold_is_a_regression() -> None:
    found = _compared(STEADY, SLOWER)

    assert found.regressed
    assert _verdicts(found, "a") == dict.fromkeys(("tokens/s", "tokens/processor s", "peak memory"), "noise")
    assert _verdicts(found, "b") == {
        "tokens/s": "regression",
        "tokens/processor s": "regression",
        "peak memory": "noise",
    }


def test_a_difference_within_the_threshold_is_worse_and_no_regression() -> None:
    found = _compared(STEADY, SLOWER, threshold=0.2)

    assert not found.regressed
    assert _verdicts(found, "b")["tokens/s"] == "worse"


def test_a_difference_within_the_noise_is_none_however_large() -> None:
    found = _compared(_rows(800.0, 1000.0, 1200.0), _rows(700.0, 900.0, 1100.0))

    assert not found.regressed
    assert _verdicts(found, "b")["tokens/s"] == "noise"


def test_faster_is_better_and_more_memory_is_worse() -> None:
    found = _compared(SLOWER, _rows(1000.0, 1004.0, 997.0, memory=700))

    assert _verdicts(found, "b") == {"tokens/s": "better", "tokens/processor s": "better", "peak memory": "regression"}


def test_one_round_tells_nothing_of_the_noise() -> None:
    found = _compared(_rows(1000.0), _rows(500.0))

    assert _verdicts(found, "b")["tokens/s"] == "unknown"
    assert not found.regressed


def test_a_row_that_does_not_run_any_more_is_a_regression() -> None:
    assert _compared(STEADY, [failed()]).regressed
    assert _verdicts(_compared([failed()], STEADY), "b") == {"": "mended"}
    assert not _compared([failed()], [failed()]).regressed


def test_other_settings_are_minded() -> None:
    before, after = of(suite(), [STEADY, STEADY]), of(suite(threads=2), [STEADY, []])

    found = compare(before, after, 0.05)

    assert found.warnings == ("the two are of different settings", "the second is not complete")
    assert found.to_json()["differences"][-1]["verdict"] == "broken"
