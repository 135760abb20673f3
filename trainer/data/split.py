"""The examples of one split, read from memory-mapped arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.data.encoded import Encoded, Learned, Tokens

Numbers = np.ndarray[tuple[int], np.dtype[Any]]
_BLOCK = 1 << 14
"""Examples that are looked at together."""


def count_targets(learned: Learned) -> int:
    """Learned tokens that something predicts: all but the first."""
    return int(np.count_nonzero(learned[1:]))


class Split:
    """Some of the stored examples; N of them, S tokens in one."""

    def __init__(self, arrays: dict[str, Numbers], chosen: Numbers | None = None) -> None:
        """`arrays` of all that is stored, as `store.py` names them; `chosen` are numbers of examples, None: all."""
        self._arrays, self._chosen = arrays, chosen
        self.lengths: Numbers = self._of("lengths")
        """Tokens of each example, int32 [N]."""

    @classmethod
    def of(cls, rows: Sequence[tuple[Tokens, Learned]]) -> "Split":
        """A split in memory, of one source, from its tokens and what is learned of them."""
        return cls(
            {
                "tokens": np.concatenate([np.asarray(tokens, dtype=np.int32) for tokens, _ in rows]),
                "learned": np.concatenate([np.asarray(learned, dtype=np.bool_) for _, learned in rows]),
                "starts": np.cumsum([0, *(len(tokens) for tokens, _ in rows)], dtype=np.int64)[:-1],
                "lengths": np.array([len(tokens) for tokens, _ in rows], dtype=np.int32),
                "targets": np.array([count_targets(np.asarray(learned)) for _, learned in rows], dtype=np.int32),
                "source": np.zeros(len(rows), dtype=np.int32),
            }
        )

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def targets(self) -> Numbers:
        """Learned tokens of each example that something predicts, int32 [N]."""
        return self._of("targets")

    @property
    def source(self) -> Numbers:
        """The number of each example's source in the list of its key, int32 [N]."""
        return self._of("source")

    def tokens(self, row: int) -> Tokens:
        """The tokens of one example, int32 [S]."""
        tokens: Tokens = self._part("tokens", row)
        return tokens

    def learned(self, row: int) -> Learned:
        """Whether each token of one example is learned, bool [S]."""
        learned: Learned = self._part("learned", row)
        return learned

    def marks(self, row: int) -> Tokens:
        """The mark of each token of one example, as the store numbers them, int32 [S]."""
        marks: Tokens = self._part("marks", row)
        return marks

    def present_marks(self) -> list[int]:
        """The marks that stand in any of the examples, sorted."""
        starts, found = self._of("starts"), set[int]()
        for first in range(0, len(self), _BLOCK):
            lengths = self.lengths[first : first + _BLOCK]
            within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            places = np.repeat(starts[first : first + _BLOCK], lengths) + within
            found.update(np.unique(self._arrays["marks"][places]).tolist())
        return sorted(found - {-1})

    def example(self, row: int) -> Encoded:
        """All of one example."""
        optional = {name: self._part(name, row) for name in ("types", "parts", "marks") if name in self._arrays}
        return Encoded(self.tokens(row), self.learned(row), **optional)

    def _part(self, name: str, row: int) -> Any:
        stored = row if self._chosen is None else self._chosen[row]
        start = int(self._arrays["starts"][stored])
        return np.array(self._arrays[name][start : start + int(self.lengths[row])])

    def _of(self, name: str) -> Numbers:
        array = self._arrays[name]
        return array if self._chosen is None else array[self._chosen]
