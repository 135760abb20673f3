"""Collects what is wrong with the rows, so that a user mends it in one go without reading a thousand lines."""

from trainer.errors import DataError, Problem

SHOWN = 20
"""Problems that one message lists."""
LOOKED_AT = 1000
"""Rows of a source that are looked at once one of them is wrong."""


class Findings:
    """Problems of all sources; equal messages of one source are told once, with how many rows they are about."""

    def __init__(self) -> None:
        self._alike: dict[tuple[str, str], list[Problem]] = {}

    def __bool__(self) -> bool:
        return bool(self._alike)

    def add(self, source: str, problem: Problem) -> None:
        """One more problem of a source."""
        self._alike.setdefault((source, problem.message), []).append(problem)

    def enough(self, source: str, seen: int) -> bool:
        """Whether a source with problems was looked at long enough: `seen` rows of it."""
        return seen >= LOOKED_AT and any(name == source for name, _ in self._alike)

    def raise_if_any(self) -> None:
        """DataError with the first problems, and how many more there are."""
        if not self:
            return
        groups = list(self._alike.values())
        problems = [_one(group) for group in groups[:SHOWN]]
        if len(groups) > SHOWN:
            rest = sum(len(group) for group in groups[SHOWN:])
            problems.append(
                Problem("data", f"{rest:,} more problems like these; mend the first {SHOWN} and look again")
            )
        raise DataError(problems)


def _one(group: list[Problem]) -> Problem:
    first = group[0]
    if len(group) == 1:
        return first
    return Problem(first.where, f"{first.message} (and {len(group) - 1:,} more rows like it)")
