"""What of an example is tokenised as one text, and which special tokens stand around such texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.data.conversations import Written
from trainer.data.example import Example

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


Part = Run | Special
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


def of_sequences(example: Example, around: Around) -> list[Part]:
    """The sequences with what stands between them, or line ends where nothing does; then the pieces."""
    first, *others = example.sequences
    runs: list[list[_Stretch]] = [[(first, False, 0)]]
    for text in others:
        if around.between.ids:
            runs.append([(text, False, around.last)])
        else:
            runs[0] += [("\n", False, around.last), (text, False, around.last)]
    pieces = [(piece.text, piece.learned, around.last) for piece in example.pieces]
    if not around.end.ids:
        runs[-1] += pieces
        pieces = []
    parts: list[Part] = [around.start, _run(*zip(*runs[0], strict=True))]
    for run in runs[1:]:
        parts += [around.between, _run(*zip(*run, strict=True))]
    return [*parts, around.end, *([_run(*zip(*pieces, strict=True))] if pieces else [])]


def _run(texts: Sequence[str], learned: Sequence[bool], segments: Sequence[int]) -> Run:
    ends, end = [], 0
    for text in texts:
        end += len(text)
        ends.append(end)
    return Run("".join(texts), ends, learned, segments)
