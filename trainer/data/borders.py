"""Tokens of texts, and how many of them stand before given characters."""

import json
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING
from unicodedata import is_normalized

import numpy as np

from trainer.data.word_cache import Tokens, WordCache, cuts_at_spaces, tokens_of

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Counts = np.ndarray[tuple[int], np.dtype[np.int64]]

_NOT_BYTES = 1 << 40
"""The length of a token of which it is not known how many bytes it stands for."""
_UNSEEN = -1


class Bordered:
    """A tokenizer that says of each border in a text how many tokens have their last character before it.

    Where the tokens of a byte-level BPE are the bytes of the text, no more and no less, their lengths say it at once.
    Else it is asked for the place of each border, which takes it longer.
    """

    def __init__(self, backend: "Tokenizer") -> None:
        self._backend = backend
        # Some put a space before a text.
        self._lengths = _Lengths(backend) if _has_lengths(backend) else None
        if self._lengths is not None:
            letter = np.array(backend.encode("a", add_special_tokens=False).ids, dtype=np.int32)
            if self._lengths.of(letter).sum() != 1:
                self._lengths = None
        self._words = WordCache(backend, self._lengths.of) if self._lengths and cuts_at_spaces(backend) else None
        self._composes = backend.normalizer is not None

    def encode(self, texts: Sequence[str], borders: Sequence[Sequence[int]]) -> list[tuple[Tokens, Counts]]:
        """The tokens of each text [S], without those that the tokenizer adds, and a count for each of its borders.

        Borders are characters in rising order; the tokens are those of the whole text.
        """
        found = [None] * len(texts) if self._lengths is None else self._by_bytes(self._lengths, texts, borders)
        others = [number for number, row in enumerate(found) if row is None]
        encodings = self._backend.encode_batch([texts[number] for number in others], add_special_tokens=False)
        placed = (
            _placed(encoding, texts[number], borders[number])
            for number, encoding in zip(others, encodings, strict=True)
        )
        return [next(placed) if row is None else row for row in found]

    def _by_bytes(
        self, lengths: "_Lengths", texts: Sequence[str], borders: Sequence[Sequence[int]]
    ) -> list[tuple[Tokens, Counts] | None]:
        """None where the tokens of a text are not its bytes."""
        tokens, sizes = self._words.encode(texts) if self._words else tokens_of(self._backend, texts)
        ends = np.cumsum(lengths.of(tokens))
        rows: list[tuple[Tokens, Counts] | None] = []
        first = before = 0
        for own, text, places in zip(sizes.tolist(), texts, borders, strict=True):
            last = first + own
            after = int(ends[last - 1]) if own else before
            *starts, size = _sizes(text, places)
            if after - before == size and self._keeps(text):
                counts = np.searchsorted(ends[first:last], np.array(starts, dtype=np.int64) + before, side="right")
                rows.append((tokens[first:last], counts))
            else:
                rows.append(None)
            first, before = last, after
        return rows

    def _keeps(self, text: str) -> bool:
        """Whether the tokenizer's normal form of a text is the text."""
        return not self._composes or text.isascii() or is_normalized("NFC", text)


def _sizes(text: str, places: Sequence[int]) -> list[int]:
    """How many bytes stand before each place, and in all."""
    if text.isascii():
        return [*places, len(text)]
    stretches = (text[start:end] for start, end in pairwise((0, *places, len(text))))
    return list(accumulate(len(stretch.encode()) for stretch in stretches))


def _placed(encoding: "Encoding", text: str, places: Sequence[int]) -> tuple[Tokens, Counts]:
    """The same from the places of tokens; a character in no token, such as white space, counts with the next one."""
    counts = []
    for place in places:
        token = None
        while token is None and place < len(text):
            token = encoding.char_to_token(place)
            place += 1
        counts.append(len(encoding) if token is None else token)
    return np.array(encoding.ids, dtype=np.int32), np.array(counts, dtype=np.int64)


def _has_lengths(backend: "Tokenizer") -> bool:
    """Whether each token stands for as many bytes wherever it stands."""
    from tokenizers import decoders, models

    if not (isinstance(backend.model, models.BPE) and isinstance(backend.decoder, decoders.ByteLevel)):
        return False
    normalizer = json.loads(backend.normalizer.__getstate__()) if backend.normalizer else {"type": "None"}
    steps = normalizer.get("normalizers", [normalizer])
    return not {step["type"] for step in steps} - {"NFC", "None"}


class _Lengths:
    """How many bytes of a text each token stands for; looked up once for each token that is met."""

    def __init__(self, backend: "Tokenizer") -> None:
        self._backend = backend
        self._added = {
            number: len(token.content.encode()) for number, token in backend.get_added_tokens_decoder().items()
        }
        self._bytes = np.full(0, _UNSEEN, dtype=np.int64)

    def of(self, tokens: Tokens) -> Counts:
        """The bytes of each token [S]; two threads may ask at a time."""
        known, most = self._bytes, int(tokens.max(initial=-1))
        if most >= len(known):
            known = np.pad(known, (0, most + 1 - len(known)), constant_values=_UNSEEN)
        lengths: Counts = known[tokens]
        if np.any(unseen := lengths == _UNSEEN):
            for number in np.unique(tokens[unseen]).tolist():
                known[number] = self._length(number)
            lengths = known[tokens]
        self._bytes = known
        return lengths

    def _length(self, number: int) -> int:
        if number in self._added:
            return self._added[number]
        token = self._backend.id_to_token(number)
        # A byte is one character there.
        return _NOT_BYTES if token is None or token == self._backend.model.unk_token else len(token)
