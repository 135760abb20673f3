"""One row as a file holds it, or what is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from trainer.errors import Problem


@dataclass(frozen=True)
class BadRow(Problem):
    """A Problem of one row alone: the rows after it are read, and `data.max_bad_rows` may leave it out."""

    source: str
    """The file, or the name of a set."""
    line: int
    """As `Row.line`."""

    @classmethod
    def at(cls, source: str, line: int, message: str) -> "BadRow":
        """The Problem of the row that stands at a line of a file."""
        return cls(f"{source}:{line}", message, source, line)


class Row(NamedTuple):
    """One row as the file holds it; a tuple, because millions are made."""

    source: str
    """The file, or the name of a set with its split."""
    line: int
    """The line of a JSONL, CSV or TSV file where it starts, else the number of the row; from 1."""
    values: Mapping[str, Any]
    """Its columns."""

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.source}:{self.line}"

    def bad(self, message: str) -> BadRow:
        """The Problem of this row."""
        return BadRow.at(self.source, self.line, message)
