"""Tokenised rows in a folder: arrays that grow on disk while they are written, and are memory-mapped when read.

N rows became M examples of T tokens; more than N only where `data.too_long: split` made several of one.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from trainer.data.chunk import KINDS, Chunk, Wanted
from trainer.data.facts import Column, Facts, Numbers
from trainer.data.kept_images import write_kept
from trainer.data.row import BadRow, LeftOut
from trainer.data.split import Split

_OF_EXAMPLES = ("tokens", "learned", "types", "parts", "marks", "starts", "lengths", "targets", "source")
_OF_FACTS = ("file", "line", "length", "digest", "prompt")

BLOCK = 1 << 18
"""Rows that are looked at together."""
_INFO, _LEFT_OUT, _TEXTS = "info.json", "left_out.jsonl", "texts.jsonl"


@dataclass
class Info:
    """What is told of a store as a whole."""

    arrays: list[str]
    """Their names."""
    files: list[str] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    """The distinct values of each column."""
    marks: list[str] = field(default_factory=list)
    """The tags that the array `marks` numbers."""
    read: dict[str, int] = field(default_factory=dict)
    """Rows that were read, by the key of their source."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows left out, by reason."""
    notes: list[str] = field(default_factory=list)
    """What there is to say of the files."""
    cut: int = 0
    divided: int = 0
    rows: int = 0
    examples: int = 0
    tokens: int = 0


class Writer:
    """Writes the chunks of a store end to end, with one in memory; a store is whole once it is closed."""

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        arrays = ["starts", *wanted.arrays]
        self.folder, self.info = folder, Info(arrays, columns={name: [] for name in wanted.all_columns})
        self._codes: dict[str, dict[str, int]] = {name: {} for name in wanted.all_columns}
        self._files: dict[str, int] = {}
        self._marks: dict[str, int] = {}
        self._counts: Counter[str] = Counter()
        self._opened = ExitStack()
        self._left_out, self._texts = (
            self._opened.enter_context((folder / name).open("w", encoding="utf-8")) for name in (_LEFT_OUT, _TEXTS)
        )
        self._arrays = {name: self._growing(name, KINDS.get(name, np.int64)) for name in arrays}
        self._columns = {
            name: self._growing(f"column.{number}", np.int32) for number, name in enumerate(wanted.all_columns)
        }

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()
        if error is None:
            self.info.files, self.info.left_out = list(self._files), dict(self._counts)
            self.info.marks = list(self._marks)
            (self.folder / _INFO).write_text(json.dumps(asdict(self.info)), encoding="utf-8")

    def add(self, key: str, chunk: Chunk) -> None:
        """The rows of one more chunk, from the source of this key."""
        info, arrays = self.info, dict(chunk.arrays)
        numbers = [self._files.setdefault(name, len(self._files)) for name in chunk.files]
        arrays["file"] = np.array(numbers, dtype=np.int32)[arrays["file"]]
        if "marks" in arrays:
            # The last place is that of the number -1.
            numbers = [self._marks.setdefault(tag, len(self._marks)) for tag in chunk.marks]
            arrays["marks"] = np.array([*numbers, -1], dtype=np.int32)[arrays["marks"]]
        lengths = arrays["lengths"]
        arrays["starts"] = info.tokens + np.cumsum(lengths, dtype=np.int64) - lengths
        for name, array in self._arrays.items():
            array.append(arrays[name])
        for name, column in self._columns.items():
            column.append(np.array([self._code(name, value) for value in chunk.columns[name]], dtype=np.int32))
        write_kept(self.folder, chunk.images)
        self._texts.writelines(json.dumps(text) + "\n" for text in chunk.texts)
        wrong = [problem for _, problem in chunk.wrong if isinstance(problem, BadRow)]
        assert len(wrong) == len(chunk.wrong), "any other problem refuses the run"
        for row in (*(LeftOut("wrong", row.source, row.line, row.message) for row in wrong), *chunk.left_out):
            self._left_out.write(json.dumps(asdict(row)) + "\n")
            self._counts[row.reason] += 1
        info.read[key] = info.read.get(key, 0) + chunk.rows
        info.cut += chunk.cut
        info.divided += chunk.divided
        info.rows += len(arrays["line"])
        info.examples += len(lengths)
        info.tokens += int(lengths.sum())

    def _growing(self, name: str, kind: type) -> "Growing":
        return self._opened.enter_context(closing(Growing(self.folder / f"{name}.npy", kind)))

    def _code(self, name: str, value: Any) -> int:
        """The number of a value among the distinct ones."""
        codes, values = self._codes[name], self.info.columns[name]
        code = codes.setdefault(json.dumps(value, sort_keys=True), len(values))
        if code == len(values):
            values.append(value)
        return code


class Store:
    """The rows of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info = Info(**json.loads((folder / _INFO).read_text(encoding="utf-8")))

    def facts(self, rows: Numbers | None = None) -> Facts:
        """What is known of some rows besides their tokens, in memory; None: of all, memory-mapped."""
        return Facts(
            source=self._of(rows, "row_source"),
            **{name: self._of(rows, name) for name in _OF_FACTS},
            files=tuple(self.info.files),
            columns={
                name: Column(self._of(rows, f"column.{number}"), tuple(values))
                for number, (name, values) in enumerate(self.info.columns.items())
            },
            signatures=self._of(rows, "signatures") if "signatures" in self.info.arrays else None,
        )

    def examples_of(self, rows: Numbers) -> Numbers:
        """The numbers of the examples that rows became, in their order, int64."""
        if not self.info.divided:
            return rows
        counts = self._array("examples")
        ends = np.cumsum(counts, dtype=np.int64)
        mine = counts[rows]
        within = np.arange(int(mine.sum())) - np.repeat(np.cumsum(mine) - mine, mine)
        numbers: Numbers = np.repeat(ends[rows] - mine, mine) + within
        return numbers

    def row_of(self, rows: Numbers) -> Numbers:
        """The place in `rows` of each of their examples [M]."""
        return np.repeat(np.arange(len(rows)), self._array("examples")[rows])

    def split(self, rows: Numbers) -> Split:
        """The examples of some rows, in their order; `rows` holds none twice."""
        arrays = {name: self._array(name) for name in _OF_EXAMPLES if name in self.info.arrays}
        return Split(arrays, None if len(rows) == self.info.rows else self.examples_of(rows))

    def left_out(self) -> Iterator[LeftOut]:
        """The rows left out."""
        with (self.folder / _LEFT_OUT).open(encoding="utf-8") as file:
            yield from (LeftOut(**json.loads(line)) for line in file)

    def texts(self) -> list[str]:
        """What labels are given to, of each row [N]."""
        with (self.folder / _TEXTS).open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def _of(self, rows: Numbers | None, name: str) -> Any:
        if rows is None:
            return self._array(name)
        # A map of its own for each block: what is read of it counts as this process's memory while it lasts.
        blocks = (rows[start : start + BLOCK] for start in range(0, max(1, len(rows)), BLOCK))
        return np.concatenate([self._array(name)[block] for block in blocks])

    def _array(self, name: str) -> Any:
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")


class Growing:
    """One .npy file whose first dimension grows; its header is written again at the end."""

    def __init__(self, path: Path, kind: type) -> None:
        self._file = path.open("w+b")
        self._kind = np.dtype(kind)
        self._length, self._tail = 0, tuple[int, ...]()
        self._header()

    def append(self, values: np.ndarray[Any, Any]) -> None:
        """Writes what comes next."""
        self._file.write(np.ascontiguousarray(values, dtype=self._kind).data)
        self._length += len(values)
        self._tail = values.shape[1:]

    def close(self) -> None:
        """Writes how much there is."""
        # numpy leaves room in the header for the first dimension to grow.
        with self._file:
            self._file.seek(0)
            self._header()

    def _header(self) -> None:
        description = np.lib.format.dtype_to_descr(self._kind)
        header = {"descr": description, "fortran_order": False, "shape": (self._length, *self._tail)}
        np.lib.format.write_array_header_1_0(self._file, header)
