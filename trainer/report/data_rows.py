"""Rows as the model sees them: their tokens decoded one by one, each with whether it is learned."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.data.split import Split

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

CHARACTER_TOKENS = 4
"""Tokens that one character may be made of: UTF-8 has at most four bytes."""
_PART = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Piece:
    """One token, or the few that one character is made of."""

    text: str
    learned: bool
    special: bool
    """Whether it is a special token, such as an end of turn."""


@dataclass(frozen=True)
class ShownRow:
    """One example of a split."""

    split: str
    where: str
    """`file:line`."""
    tokens: int
    learned: int
    """Learned tokens that something predicts."""
    pieces: tuple[Piece, ...]
    label: str | None = None
    """The label that is learned in place of tokens."""

    def lesson(self) -> str:
        """What is learned of it."""
        return f"{self.learned:,} learned" if self.label is None else f"label {self.label}"


class Decoder:
    """One tokenizer, from tokens to what they say."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._backend = tokenizer.backend_tokenizer
        self._special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}

    def pieces(self, tokens: Sequence[int], learned: Sequence[bool]) -> Iterator[Piece]:
        """What the tokens of one example say, in order; together they are its text."""
        before: list[int] = []
        held: list[int] = []
        for place, (token, is_learned) in enumerate(zip(tokens, learned, strict=True)):
            held.append(token)
            text = self._after(before, held)
            goes_on = place + 1 < len(tokens) and learned[place + 1] == is_learned
            if text.endswith(_PART) and goes_on and len(held) < CHARACTER_TOKENS:
                continue
            yield Piece(text, bool(is_learned), token in self._special)
            before, held = held, []

    def _after(self, before: list[int], tokens: list[int]) -> str:
        """What tokens say behind those before them, where some tokenizers write a space or leave one out."""
        start, both = self._text(before), self._text(before + tokens)
        return both.removeprefix(start) if both.startswith(start) else self._text(tokens)

    def _text(self, tokens: list[int]) -> str:
        return str(self._backend.decode(tokens, skip_special_tokens=False))


def shown(name: str, split: Split, row: int, where: str, decoder: Decoder, label: str | None = None) -> ShownRow:
    """One example of the split of this name, from the arrays that training reads."""
    tokens, learned = split.tokens(row), split.learned(row)
    pieces = tuple(decoder.pieces(tokens.tolist(), learned.tolist()))
    return ShownRow(name, where, len(tokens), int(split.targets[row]), pieces, label)
