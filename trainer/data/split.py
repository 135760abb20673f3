"""Tokenised rows on disk: written one after the other, read as memory-mapped arrays."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from trainer.data.encode import Learned, Tokens

Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]


def count_targets(learned: Learned) -> int:
    """Learned tokens that something predicts: all but the first."""
    return int(np.count_nonzero(learned[1:]))


class Split:
    """The rows of one split; N rows, S tokens in one of them."""

    def __init__(self, tokens: Tokens, learned: Learned, starts: Numbers, targets: Numbers, rows: Numbers) -> None:
        """`tokens`, `learned` of all stored rows end to end; `starts` of each, and the end; `rows` that are chosen."""
        self._tokens, self._learned, self._starts, self._rows = tokens, learned, starts, rows
        self.lengths: Numbers = np.diff(starts)[rows]
        """Tokens of each row [N]."""
        self.targets: Numbers = np.asarray(targets)[rows]
        """Learned tokens of each row that something predicts [N]."""

    @classmethod
    def of(cls, rows: Sequence[tuple[Tokens, Learned]]) -> "Split":
        """A split in memory from its tokens and what is learned of them."""
        return cls(
            np.concatenate([np.asarray(tokens, dtype=np.int32) for tokens, _ in rows]),
            np.concatenate([np.asarray(learned, dtype=np.bool_) for _, learned in rows]),
            np.cumsum([0, *(len(tokens) for tokens, _ in rows)], dtype=np.int64),
            np.array([count_targets(np.asarray(learned)) for _, learned in rows], dtype=np.int64),
            np.arange(len(rows), dtype=np.int64),
        )

    @classmethod
    def open(cls, folder: Path, name: str, rows: Numbers) -> "Split":
        """The chosen rows of the store `name` in a folder."""
        arrays = [np.load(folder / f"{name}.{part}.npy", mmap_mode="r") for part in ("tokens", "learned")]
        numbers = [np.load(folder / f"{name}.{part}.npy") for part in ("starts", "targets")]
        return cls(arrays[0], arrays[1], numbers[0], numbers[1], rows)

    def __len__(self) -> int:
        return len(self._rows)

    def tokens(self, row: int) -> Tokens:
        """The tokens of one row, int32 [S]."""
        return np.array(self._tokens[self._span(row)])

    def learned(self, row: int) -> Learned:
        """Whether each token of one row is learned, bool [S]."""
        return np.array(self._learned[self._span(row)])

    def _span(self, row: int) -> slice:
        stored = self._rows[row]
        return slice(int(self._starts[stored]), int(self._starts[stored + 1]))


class Store:
    """Writes rows end to end, so that no more than one chunk of them is in memory."""

    def __init__(self, folder: Path, name: str) -> None:
        self._columns = {
            "tokens": _Column(folder / f"{name}.tokens.npy", np.dtype(np.int32)),
            "learned": _Column(folder / f"{name}.learned.npy", np.dtype(np.bool_)),
            "starts": _Column(folder / f"{name}.starts.npy", np.dtype(np.int64)),
            "targets": _Column(folder / f"{name}.targets.npy", np.dtype(np.int64)),
        }
        self.lengths: list[int] = []
        self.targets: list[int] = []

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for column in self._columns.values():
            column.close()

    def __len__(self) -> int:
        return len(self.lengths)

    def add(self, tokens: Tokens, learned: Learned) -> None:
        """One more row."""
        self._columns["tokens"].append(tokens)
        self._columns["learned"].append(learned)
        self.lengths.append(len(tokens))
        self.targets.append(count_targets(learned))

    def finish(self) -> None:
        """Writes what is known once all rows are there."""
        self._columns["starts"].append(np.cumsum([0, *self.lengths], dtype=np.int64))
        self._columns["targets"].append(np.array(self.targets, dtype=np.int64))


class _Column:
    """One .npy file of a single dimension that grows; its header is written again at the end."""

    def __init__(self, path: Path, kind: np.dtype[Any]) -> None:
        self._file = path.open("w+b")
        self._kind = kind
        self._length = 0
        self._header()

    def append(self, values: np.ndarray[Any, Any]) -> None:
        self._file.write(np.ascontiguousarray(values, dtype=self._kind).data)
        self._length += len(values)

    def close(self) -> None:
        # numpy leaves room in the header for the first dimension to grow.
        self._file.seek(0)
        self._header()
        self._file.close()

    def _header(self) -> None:
        description = np.lib.format.dtype_to_descr(self._kind)
        header = {"descr": description, "fortran_order": False, "shape": (self._length,)}
        np.lib.format.write_array_header_1_0(self._file, header)
