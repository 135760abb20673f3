"""What of an example is tokenised as one text, and which special tokens stand around such texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trainer.data.conversations import Written
from trainer.data.encoded import Parts, Types
from trainer.data.example import Example, Piece

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class Run:
    """A text of stretches: where each ends, whether it is learned, its segment."""

    text: str
    ends: Sequence[int]
    learned: Sequence[bool]
    segments: Sequence[int]


@dataclass(frozen=True, slots=True)
class Special:
    """Tokens that the tokenizer adds, and the segment of each."""

    ids: Sequence[int] = ()
    segments: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Next:
    """What the model reads apart begins here."""


Part = Run | Special | Next
_Stretch = tuple[str, bool, int]


@dataclass(frozen=True, slots=True)
class Around:
    """What a tokenizer puts before, between and after its texts."""

    start: Special
    between: Special
    """Empty where nothing stands between texts, or where there is but one."""
    end: Special
    last: int
    """The segment of the texts after the first one, which has the segment 0."""

    @classmethod
    def one(cls, tokenizer: "PreTrainedTokenizerFast") -> "Around":
        """Around a single text."""
        return _around(tokenizer.backend_tokenizer.encode("a"))

    @classmethod
    def two(cls, tokenizer: "PreTrainedTokenizerFast") -> "Around":
        """Around a pair; a tokenizer that puts nothing between its texts may name a separator (sep_token)."""
        around = _around(tokenizer.backend_tokenizer.encode("a", "a"))
        if around.between.ids or tokenizer.sep_token_id is None:
            return around
        return Around(around.start, Special([tokenizer.sep_token_id], [0]), around.end, around.last)


def _around(encoding: "Encoding") -> Around:
    ids, segments, of_text = encoding.ids, encoding.type_ids, encoding.sequence_ids
    places = [place for place, sequence in enumerate(of_text) if sequence is not None]
    first, last = places[0], places[-1]
    inside = [place for place in range(first, last) if of_text[place] is None]

    def special(chosen: Sequence[int]) -> Special:
        return Special([ids[place] for place in chosen], [segments[place] for place in chosen])

    return Around(special(range(first)), special(inside), special(range(last + 1, len(ids))), segments[last])


def of_conversation(written: Written) -> Run:
    """The text of a conversation; its template writes the special tokens itself."""
    ends: list[int] = []
    for span in written.learned:
        ends += span
    learned = [bool(number % 2) for number in range(len(ends))]
    return Run(written.text, [*ends, len(written.text)], [*learned, False], [0] * (len(ends) + 1))


def of_pieces(example: Example, lines: int | None = None) -> Run:
    """The listing, of which so many lines are written, and the pieces below it."""
    texts, learned = [], []
    if example.listing is not None:
        texts = [example.listing.head(), *example.listing.lines()[:lines]]
        learned = [False] * len(texts)
    texts += [piece.text for piece in example.pieces]
    learned += [piece.learned for piece in example.pieces]
    return _run(texts, learned, [0] * len(texts))


def of_sequences(sequences: Sequence[str], answer: Sequence[Piece], around: Around) -> list[Part]:
    """The sequences with what stands between them, or line ends where nothing does; then the answer."""
    first, *others = sequences
    runs: list[list[_Stretch]] = [[(first, False, 0)]]
    for text in others:
        if around.between.ids:
            runs.append([(text, False, around.last)])
        else:
            runs[0] += [("\n", False, around.last), (text, False, around.last)]
    pieces = [(piece.text, piece.learned, around.last) for piece in answer]
    if not around.end.ids:
        runs[-1] += pieces
        pieces = []
    parts: list[Part] = [around.start, _run(*zip(*runs[0], strict=True))]
    for run in runs[1:]:
        parts += [around.between, _run(*zip(*run, strict=True))]
    return [*parts, around.end, *([_run(*zip(*pieces, strict=True))] if pieces else [])]


def of_parts(example: Example, one: Around, two: Around) -> list[Part]:
    """What the model reads apart, each with the special tokens around its texts."""
    plan: list[Part] = []
    for number, texts in enumerate(example.parts):
        alone = [one.start, _run(texts, [False], [0]), one.end]
        plan += [*([Next()] if number else []), *(alone if len(texts) == 1 else of_sequences(texts, (), two))]
    return plan


def _run(texts: Sequence[str], learned: Sequence[bool], segments: Sequence[int]) -> Run:
    ends, end = [], 0
    for text in texts:
        end += len(text)
        ends.append(end)
    return Run("".join(texts), ends, learned, segments)


class Places:
    """Where the parts of a plan stand among the tokens of a row."""

    def __init__(self) -> None:
        self.position = 0
        self.learned: list[tuple[int, int]] = []
        self.starts = [0]
        """Where what the model reads apart begins."""
        self.tails = [0]
        """The special tokens at its end."""
        self.segment = 0
        """That of the last token."""
        self._segments: list[tuple[int, int, int]] = []

    def next_part(self) -> None:
        """The next token begins a part."""
        self.starts.append(self.position)
        self.tails.append(0)

    def special(self, part: Special) -> None:
        """Special tokens come next."""
        for segment in part.segments:
            self._add(self.position + 1, segment)
        self.tails[-1] += len(part.ids)

    def run(self, run: Run, counts: Sequence[int], length: int) -> None:
        """The tokens of a text come next; so many of them stand before the end of each stretch."""
        first = self.position
        for count, is_learned, segment in zip(counts, run.learned, run.segments, strict=True):
            if is_learned:
                self.learned.append((self.position, first + count))
            self._add(first + count, segment)
        self.position, self.tails[-1] = first + length, 0

    def numbers(self, length: int) -> Parts:
        """The number of each token's part [S]."""
        begins = np.zeros(length, dtype=np.int16)
        begins[self.starts[1:]] = 1
        return np.cumsum(begins, dtype=np.int16)

    def kinds(self, length: int) -> Types:
        """The segment of each token [S]."""
        kinds = np.zeros(length, dtype=np.int8)
        for start, end, segment in self._segments:
            kinds[start:end] = segment
        return kinds

    def _add(self, end: int, segment: int) -> None:
        self.segment = segment
        if segment:
            self._segments.append((self.position, end, segment))
        self.position = end
