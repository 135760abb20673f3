"""One row as a file holds it, what is wrong with it, or why it is left out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from trainer.errors import Problem

Reason = Literal[
    "wrong",
    "cleaned away",
    "nothing learned",
    "no positive candidate",
    "too long",
    "learned part cut off",
    "duplicate",
    "leaked",
    "unsure",
]
"""What rows left out are counted by."""


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


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that training does not see: a line of quarantine.jsonl."""

    reason: Reason
    source: str
    """Its file, or the name of a set."""
    line: int
    why: str
    tokens: int = 0
    """How long it is, where it is too long; where its learned part begins, where that is cut off."""

    def to_line(self) -> str:
        """Its line of quarantine.jsonl."""
        entry = {"source": self.source, "line": self.line, "why": self.why}
        return json.dumps(entry, ensure_ascii=False) + "\n"
