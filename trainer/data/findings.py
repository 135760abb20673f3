"""Collects what is wrong with the rows, so that a user mends it in one go without reading a thousand lines."""

from trainer.data.row import BadRow
from trainer.errors import DataError, Problem

SHOWN = 20
"""Problems that one message lists."""
LOOKED_AT = 1000
"""Rows of a source with problems that are looked at once the run is refused."""


class Findings:
    """Problems of all sources; true once they refuse the run: more bad rows than may be left out, or one Problem that
    is not about a single row.
    """

    def __init__(self, max_bad_rows: int = 0) -> None:
        self.max_bad_rows = max_bad_rows
        self.left_out: list[BadRow] = []
        """The bad rows in the order in which they were found."""
        self._alike: dict[tuple[str, str], list[Problem]] = {}
        self._refused = False

    def __bool__(self) -> bool:
        return self._refused

    def add(self, source: str, problem: Problem) -> None:
        """One more problem of a source."""
        self._alike.setdefault((source, problem.message), []).append(problem)
        if isinstance(problem, BadRow):
            self.left_out.append(problem)
            self._refused = self._refused or len(self.left_out) > self.max_bad_rows
        else:
            self._refused = True

    def enough(self, source: str, seen: int) -> bool:
        """Whether a source with problems was looked at long enough, `seen` rows of it, since they refuse the run."""
        return self._refused and seen >= LOOKED_AT and any(name == source for name, _ in self._alike)

    def raise_if_any(self) -> None:
        """DataError with the first problems and how many more there are, where they refuse the run; equal messages of
        one source are told once, with how many rows they are about.
        """
        if not self:
            return
        groups = list(self._alike.values())
        problems = [_one(group) for group in groups[:SHOWN]]
        if len(groups) > SHOWN:
            rest = sum(len(group) for group in groups[SHOWN:])
            problems.append(
                Problem("data", f"{rest:,} more problems like these; mend the first {SHOWN} and look again")
            )
        if 0 < self.max_bad_rows < len(self.left_out):
            problems.append(Problem("data.max_bad_rows", f"more than {self.max_bad_rows:,} rows are wrong"))
        raise DataError(problems)


def _one(group: list[Problem]) -> Problem:
    first = group[0]
    if len(group) == 1:
        return first
    return Problem(first.where, f"{first.message} (and {len(group) - 1:,} more rows like it)")
