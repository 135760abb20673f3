"""What is known of stored rows besides their tokens; the split, duplicates, leakage and the report are made from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Numbers = np.ndarray[tuple[int], np.dtype[Any]]


@dataclass(frozen=True)
class Column:
    """One column of the file that the recipe names, such as a label or a group."""

    codes: Numbers
    """The number in `values` of each row's value [N]."""
    values: tuple[Any, ...]
    """The distinct values, as JSON has them; null where a row has none."""


@dataclass(frozen=True)
class Facts:
    """N rows in the order in which they were read; arrays may be memory-mapped."""

    source: Numbers
    """The number of each row's source in the list of its key, int32 [N]."""
    file: Numbers
    """The number of each row's file in `files`, int32 [N]; a source may be several files."""
    files: tuple[str, ...]
    """The names of the files, as rows are told by."""
    line: Numbers
    """The line or row of its file, int64 [N]."""
    length: Numbers
    """Its tokens before `data.max_length` applies, int32 [N]."""
    digest: Numbers
    """A hash of what it says, uint64 [N]; equal for rows that say the same."""
    prompt: Numbers
    """A hash of what it asks, uint64 [N], as `leakage.prompt_digest` makes it; 0 where it asks nothing."""
    columns: Mapping[str, Column] = field(default_factory=dict)
    """By name of the column."""
    signatures: np.ndarray[tuple[int, int], np.dtype[np.uint32]] | None = None
    """MinHash of each row [N, P]; None where nobody asked for near duplicates."""

    def __len__(self) -> int:
        return len(self.digest)

    def where(self, row: int) -> str:
        """`file:line` of a row."""
        return f"{self.files[self.file[row]]}:{self.line[row]}"

    def select(self, rows: Numbers) -> "Facts":
        """The facts of some rows, in that order; the files and the values of columns stay."""
        names = ("source", "file", "line", "length", "digest", "prompt")
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in names},
            columns={name: Column(column.codes[rows], column.values) for name, column in self.columns.items()},
            signatures=None if self.signatures is None else self.signatures[rows],
        )
