"""How cost grows with one size: a power law through the rows of each sweep, beside what the theory allows."""

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.bench.measured import COMPLETED
from trainer.bench.statistics import power
from trainer.bench.suite import Measure, Suite


def of(suite: Suite, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each measure of each sweep; its points are those of every round."""
    found = []
    for name, sweep in suite.sweeps.items():
        own = [row for row in rows if row["sweep"] == name and row["status"] == COMPLETED]
        for measure, most in sweep.fits.items():
            points = [(row["size"], value) for row in own for value in values(row, measure)]
            fit = power(*zip(*points, strict=True)) if points else None
            low = fit.exponent.low if fit else None
            found.append(
                {
                    "sweep": name,
                    "measure": measure,
                    "points": points,
                    "fit": fit.to_json() if fit else None,
                    "at_most": most,
                    # Faster than the theory says: not even the lower end of the interval is within it.
                    "faster": None if low is None else low > most,
                }
            )
    return found


def values(row: Mapping[str, Any], measure: Measure) -> list[float]:
    """What a row measured, by round."""
    if measure.endswith("seconds_per_token"):
        processor = measure.startswith("processor")
        rates = row["tokens_per_processor_second" if processor else "tokens_per_second"]["rounds"]
        return [1 / rate for rate in rates]
    if measure in ("memory_above_imports", "peak_memory"):
        held = row["memory"]["peak" if measure == "peak_memory" else "above_imports"]["rounds"]
    else:
        held = row[measure]["rounds"]
    return [float(value) for value in held]
