"""Rows that training does not see, and why: the lines of quarantine.jsonl."""

import json
from dataclasses import dataclass
from typing import Literal

Reason = Literal[
    "wrong",
    "cleaned away",
    "nothing learned",
    "too long",
    "learned part cut off",
    "duplicate",
    "leaked",
    "unsure",
]
"""What rows left out are counted by."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One row."""

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
