"""What becomes of some rows of one source, as arrays that a store appends to its own.

N rows are kept and became M examples of T tokens; M is more than N only where `data.too_long: split` divided a row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainer.data.duplicates import PERMUTATIONS, signature
from trainer.data.encoded import Encoded
from trainer.data.example import Example
from trainer.data.kept_images import IMAGES, kept
from trainer.data.label_noise import text_of
from trainer.data.leakage import prompt_digest
from trainer.data.row import LeftOut
from trainer.data.split import count_targets
from trainer.data.words import begins
from trainer.errors import Problem

KINDS: Mapping[str, type] = {
    # of tokens [T]
    "tokens": np.int32,
    "learned": np.bool_,
    "types": np.int8,
    "parts": np.int16,
    "marks": np.int32,
    # of examples [M]
    "lengths": np.int32,
    "targets": np.int32,
    "source": np.int32,
    # of rows [N]
    "row_source": np.int32,
    "file": np.int32,
    "line": np.int64,
    "length": np.int32,
    "digest": np.uint64,
    "prompt": np.uint64,
    "examples": np.int32,
    # [N, P]
    "signatures": np.uint32,
}
"""The arrays, and what their numbers are."""
EMPTY = {"types": 0, "parts": 0, "marks": -1}
"""The arrays of tokens that are kept where they are wanted, and what they hold where a row has none."""
_NUMBERS = ("file", "line", "length", "digest", "prompt", "examples")


@dataclass(frozen=True)
class Wanted:
    """What is kept of rows besides what always is."""

    of_tokens: tuple[str, ...] = ()
    """Names of arrays: `types`, which of several texts each token belongs to; `parts`, which of what the model reads
    apart; `marks`, the tag of its word where it is the first of one."""
    columns: tuple[str, ...] = ()
    """Columns of the files, by name."""
    signatures: bool = False
    """What near duplicates are found by."""
    texts: bool = False
    """What labels are given to."""
    images: bool = False
    """What stands where the texts have marks for images."""

    @property
    def all_columns(self) -> tuple[str, ...]:
        """Those of the files, and that of the images."""
        return (*self.columns, IMAGES) if self.images else self.columns

    @property
    def arrays(self) -> tuple[str, ...]:
        """The names of the arrays."""
        optional = {name: name in self.of_tokens for name in EMPTY} | {"signatures": self.signatures}
        return tuple(name for name in KINDS if optional.get(name, True))


@dataclass(frozen=True)
class Chunk:
    """The rows that are kept, those that are not, and those that are wrong."""

    source: int
    """The number of the source in its list."""
    rows: int
    """How many there were of all three."""
    arrays: Mapping[str, np.ndarray[Any, Any]]
    """`file` holds numbers in `files`."""
    files: Sequence[str]
    columns: Mapping[str, Sequence[Any]]
    """The values of each column [N], as JSON has them."""
    images: Mapping[str, bytes]
    """What rows hold of images themselves, by digest."""
    marks: Sequence[str]
    """The tags that the array `marks` numbers."""
    texts: Sequence[str]
    """What labels are given to [N]; empty where nobody asked."""
    left_out: Sequence[LeftOut]
    wrong: Sequence[tuple[int, Problem]]
    """Each with the number of its row in the source, from 0."""
    cut: int
    """Rows that `data.max_length` shortened."""
    divided: int
    """Rows that became several examples."""


class Making:
    """A chunk that is being made, row by row."""

    def __init__(self, source: int, rows: int, wanted: Wanted) -> None:
        self.source, self.rows, self.wanted = source, rows, wanted
        self.left_out: list[LeftOut] = []
        self.wrong: list[tuple[int, Problem]] = []
        self.divided = 0
        self.cut = 0
        self._examples: list[Encoded] = []
        self._numbers: dict[str, list[int]] = {name: [] for name in _NUMBERS}
        self._signatures: list[np.ndarray[Any, Any]] = []
        self._files: dict[str, int] = {}
        self._columns: dict[str, list[Any]] = {name: [] for name in wanted.all_columns}
        self._images: dict[str, bytes] = {}
        self._marks: dict[str, int] = {}
        self._texts: list[str] = []

    def keep(self, example: Example, length: int, examples: Sequence[Encoded]) -> None:
        """One more row: `length` tokens that became these examples."""
        if "marks" in self.wanted.of_tokens and example.words:
            examples = [self._marked(part, example.tags) for part in examples]
        self._examples += examples
        self.divided += len(examples) > 1
        self.cut += 0 < sum(len(part.tokens) for part in examples) < length
        facts = {
            "file": self._files.setdefault(example.source, len(self._files)),
            "line": example.line,
            "length": length,
            "digest": example.digest(),
            "prompt": prompt_digest(example),
            "examples": len(examples),
        }
        for name, number in facts.items():
            self._numbers[name].append(number)
        for name in self.wanted.columns:
            self._columns[name].append(example.columns.get(name))
        if self.wanted.images:
            self._columns[IMAGES].append([kept(image, self._images) for image in example.images])
        if self.wanted.signatures:
            self._signatures.append(signature(example))
        if self.wanted.texts:
            self._texts.append(text_of(example))

    def made(self) -> Chunk:
        """The chunk."""
        rows = self._examples
        lengths = np.array([len(row.tokens) for row in rows], dtype=np.int32)
        arrays: dict[str, np.ndarray[Any, Any]] = {
            name: np.array(numbers, dtype=KINDS[name]) for name, numbers in self._numbers.items()
        }
        arrays["tokens"] = np.concatenate([np.zeros(0, np.int32), *(row.tokens for row in rows)])
        arrays["learned"] = np.concatenate([np.zeros(0, np.bool_), *(row.learned for row in rows)])
        arrays["lengths"] = lengths
        arrays["targets"] = np.array([count_targets(row.learned) for row in rows], dtype=np.int32)
        arrays["source"] = np.full(len(rows), self.source, dtype=np.int32)
        arrays["row_source"] = np.full(len(arrays["line"]), self.source, dtype=np.int32)
        for name in self.wanted.of_tokens:
            held = (getattr(row, name) for row in rows)
            each = (
                np.full(len(row.tokens), EMPTY[name], KINDS[name]) if values is None else values
                for row, values in zip(rows, held, strict=True)
            )
            arrays[name] = np.concatenate([np.zeros(0, KINDS[name]), *each])
        if self.wanted.signatures:
            arrays["signatures"] = np.array(self._signatures, dtype=np.uint32).reshape(-1, PERMUTATIONS)
        return Chunk(
            source=self.source,
            rows=self.rows,
            arrays=arrays,
            files=tuple(self._files),
            columns=self._columns,
            images=self._images,
            marks=tuple(self._marks),
            texts=self._texts,
            left_out=self.left_out,
            wrong=self.wrong,
            cut=self.cut,
            divided=self.divided,
        )

    def _marked(self, row: Encoded, tags: Sequence[str]) -> Encoded:
        """The row with the number of its word's tag at the first token of each word."""
        assert row.words is not None, "tags stand beside words"
        numbers = [self._marks.setdefault(tag, len(self._marks)) for tag in tags]
        marks = np.full(len(row.tokens), EMPTY["marks"], dtype=np.int32)
        first = begins(row.words)
        marks[first] = np.array(numbers, dtype=np.int32)[row.words[first]]
        return replace(row, marks=marks)
