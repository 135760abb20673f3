"""Two results of a suite, row by row: which differences are larger than the noise, and which make it worse."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trainer.bench.measured import COMPLETED
from trainer.bench.statistics import CONFIDENCE, holm, welch

TEST = "Welch's t test over the rounds, p values adjusted by Holm over all rows and measures, at 5 %"
"""How noise is told from a difference."""
MEASURES = {"tokens/s": True, "tokens/processor s": True, "peak memory": False}
"""What is compared, and whether more of it is better."""


@dataclass(frozen=True)
class Difference:
    """One measure of one row."""

    row: str
    measure: str
    before: float | None
    after: float | None
    change: float | None
    """As a share of what was before."""
    p: float | None
    """The adjusted p value; None where there is one round, which tells nothing of the noise."""
    verdict: str
    """noise, better, worse, regression (worse by more than the threshold), unknown, or what became of the row."""


@dataclass(frozen=True)
class Comparison:
    """All differences between two results."""

    threshold: float
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]
    """Why the two may not be comparable."""

    @property
    def regressed(self) -> bool:
        """Whether anything became worse by more than the threshold, or does not run any more."""
        return any(one.verdict in ("regression", "broken") for one in self.differences)

    def to_json(self) -> dict[str, Any]:
        """Everything that it says."""
        return {
            "test": TEST,
            "threshold": self.threshold,
            "regressed": self.regressed,
            "warnings": list(self.warnings),
            "differences": [asdict(one) for one in self.differences],
        }


def compare(before: Mapping[str, Any], after: Mapping[str, Any], threshold: float) -> Comparison:
    """The differences of `after` from `before`, rows matched by name."""
    old, new = ({row["name"]: row for row in result["rows"]} for result in (before, after))
    names = [*old, *(name for name in new if name not in old)]
    both = [name for name in names if _completed(old.get(name)) and _completed(new.get(name))]
    pairs = [
        (name, measure, _rounds(old[name], measure), _rounds(new[name], measure))
        for name in both
        for measure in MEASURES
    ]
    adjusted = holm([welch(first, second) for _, _, first, second in pairs])
    found = [
        _difference(name, measure, first, second, p, threshold)
        for (name, measure, first, second), p in zip(pairs, adjusted, strict=True)
    ]
    rest = [_unmatched(name, old.get(name), new.get(name)) for name in names if name not in both]
    return Comparison(threshold, (*found, *rest), tuple(_warnings(before, after)))


def _completed(row: Mapping[str, Any] | None) -> bool:
    return row is not None and row["status"] == COMPLETED


def _rounds(row: Mapping[str, Any], measure: str) -> list[float]:
    places = {
        "tokens/s": row["tokens_per_second"],
        "tokens/processor s": row["tokens_per_processor_second"],
        "peak memory": row["memory"]["peak"],
    }
    return [float(value) for value in places[measure]["rounds"]]


def _difference(
    row: str, measure: str, first: list[float], second: list[float], p: float | None, threshold: float
) -> Difference:
    before, after = sum(first) / len(first), sum(second) / len(second)
    change = (after - before) / before
    gain = change if MEASURES[measure] else -change
    if p is None:
        verdict = "unknown"
    elif p > 1 - CONFIDENCE:
        verdict = "noise"
    else:
        verdict = "better" if gain > 0 else "regression" if -gain > threshold else "worse"
    return Difference(row, measure, before, after, change, p, verdict)


def _unmatched(name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Difference:
    """What became of a row that one of the two does not have, or not completed."""
    if old is None or new is None:
        verdict = "new" if old is None else "gone"
    else:
        verdict = "broken" if _completed(old) else "mended" if _completed(new) else "failed in both"
    return Difference(name, "", None, None, None, None, verdict)


def _warnings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    said = []
    for key, name in (("hardware", "machines"), ("suite", "settings"), ("device", "devices"), ("versions", "versions")):
        if before[key] != after[key]:
            said.append(f"the two are of different {name}")
    said += [
        f"{name} is not complete" for name, one in (("the first", before), ("the second", after)) if not one["complete"]
    ]
    return said
