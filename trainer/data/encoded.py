"""The tokens of one row, and what is known of each of them; S tokens."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainer.data.word_cache import Tokens

__all__ = ["Encoded", "Learned", "Parts", "Tokens", "Types"]

Learned = np.ndarray[tuple[int], np.dtype[np.bool_]]
Types = np.ndarray[tuple[int], np.dtype[np.int8]]
Parts = np.ndarray[tuple[int], np.dtype[np.int16]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """The tokens of one row [S], and whether each is learned [S]."""

    tokens: Tokens
    learned: Learned
    types: Types | None = None
    """Which of several texts each token belongs to, as the tokenizer numbers them [S]; None where there is but one."""
    words: Tokens | None = None
    """The number of each token's word, -1 for special tokens [S]; None where the row has no words."""
    parts: Parts | None = None
    """The number of what the model reads apart that each token belongs to, from 0 [S]; None where there is but one."""
    marks: Tokens | None = None
    """What is learned of each token, as the store numbers it [S]; -1 where nothing is."""
    tails: tuple[int, ...] = ()
    """Special tokens at the end of each part that a cut keeps; none where text goes on."""
    left_out: int = 0
    """Lines of a table, or triples, that `data.max_length` had no room for."""
    lost: int = 0
    """The tokens of these lines."""

    @property
    def ends(self) -> list[int]:
        """Where each part ends, the last one at S."""
        inner = [] if self.parts is None else (np.flatnonzero(np.diff(self.parts)) + 1).tolist()
        return [*inner, len(self.tokens)]

    @property
    def longest(self) -> int:
        """Tokens of the longest part."""
        return int(np.diff([0, *self.ends]).max())

    def cut(self, length: int) -> "Encoded":
        """The first tokens of each part, and the special ones that it ends with: so many at most."""
        kept = np.zeros(len(self.tokens), dtype=np.bool_)
        start = 0
        for end, tail in zip(self.ends, self.tails or (0,), strict=True):
            kept[start : min(end, start + length - tail)] = True
            kept[max(start, end - tail) : end] = True
            start = end
        return self.at(kept)

    def at(self, places: Any) -> "Encoded":
        """The tokens at these places alone; a slice, a mask [S] or numbers."""
        held = {name: getattr(self, name) for name in ("tokens", "learned", "types", "words", "parts", "marks")}
        chosen: dict[str, Any] = {name: values[places] for name, values in held.items() if values is not None}
        return replace(self, **chosen)

    def apart(self) -> "list[Encoded]":
        """Each part as a row of its own."""
        ends = self.ends
        return [self.at(slice(start, end)) for start, end in zip([0, *ends], ends, strict=False)]
