"""From what rows say to tokens, and which of them are learned."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.config.recipe import Recipe
from trainer.data import templates
from trainer.data.conversations import Writer
from trainer.data.formats import Example, Piece
from trainer.errors import Problem, RecipeError

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

Tokens = np.ndarray[tuple[int], np.dtype[np.int32]]
Learned = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """The tokens of one row [S], and whether each is learned [S]."""

    tokens: Tokens
    learned: Learned


class Encoder:
    """One tokenizer and one chat template."""

    def __init__(self, recipe: Recipe, tokenizer: "PreTrainedTokenizerBase") -> None:
        """RecipeError where the tokenizer lacks what the formats of the recipe need."""
        from transformers import PreTrainedTokenizerFast

        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            message = "is not a fast tokenizer, so the place of its tokens is unknown; it needs a tokenizer.json"
            raise RecipeError([Problem("model.tokenizer", message)])
        self.backend = tokenizer.backend_tokenizer
        # A tokenizer.json may bring a length and padding of its own.
        self.backend.no_truncation()
        self.backend.no_padding()
        self.eos: int | None = tokenizer.eos_token_id
        self.writer: Writer | None = None
        if templates.writes_conversations(recipe):
            self.writer = Writer(templates.choose(recipe, tokenizer), tokenizer)
        validation = recipe.data.validation if isinstance(recipe.data.validation, tuple) else ()
        formats = {source.format for source in (*recipe.data.train, *validation)}
        if self.eos is None and formats & {"completion", "text"}:
            message = "has no end-of-text token (eos_token), which completion and text rows end with"
            raise RecipeError([Problem("model.tokenizer", message)])

    @property
    def identity(self) -> list[str]:
        """All that tokens depend on besides the rows."""
        return [self.backend.to_str(), str(self.eos), self.writer.template if self.writer else ""]

    def encode(self, examples: Sequence[Example]) -> list[Encoded | Problem]:
        """The tokens of each example in order; a Problem where the chat template cannot write one."""
        talks = [example for example in examples if example.messages]
        texts = [example for example in examples if not example.messages]
        encoded = iter(self._texts(texts))
        written = iter(self._conversations(talks))
        return [next(written) if example.messages else next(encoded) for example in examples]

    def _conversations(self, examples: Sequence[Example]) -> list[Encoded | Problem]:
        if not examples:
            return []
        assert self.writer is not None, "conversations need a template"
        written = self.writer.write([example.messages for example in examples])
        # The template writes the special tokens itself.
        sound = [pieces for pieces in written if not isinstance(pieces, str)]
        encoded = iter(self._batch(sound, special=False))
        return [
            Problem(example.where, pieces) if isinstance(pieces, str) else Encoded(*next(encoded))
            for example, pieces in zip(examples, written, strict=True)
        ]

    def _texts(self, examples: Sequence[Example]) -> list[Encoded]:
        """Texts with the special tokens that the tokenizer adds, and the end-of-text token after them, learned."""
        encoded = []
        for tokens, learned in self._batch([example.pieces for example in examples], special=True):
            assert self.eos is not None, "the constructor asked for one"
            if len(tokens) == 0 or tokens[-1] != self.eos:
                tokens, learned = np.append(tokens, np.int32(self.eos)), np.append(learned, True)
            learned[-1] = True
            encoded.append(Encoded(tokens, learned))
        return encoded

    def _batch(self, rows: Sequence[Sequence[Piece]], *, special: bool) -> list[tuple[Tokens, Learned]]:
        """Each row is tokenised as one text, so that tokens are those that a user's whole text has."""
        texts = ["".join(piece.text for piece in pieces) for pieces in rows]
        encodings = self.backend.encode_batch(texts, add_special_tokens=special)
        return [
            (np.array(encoding.ids, dtype=np.int32), _learned(encoding, pieces))
            for encoding, pieces in zip(encodings, rows, strict=True)
        ]


def _learned(encoding: Any, pieces: Sequence[Piece]) -> Learned:
    """Whether the last character of each token stands in a learned piece [S].

    The last and not the first: `Q: ` and `yes` may become the tokens `Q`, `:`, ` yes`, and ` yes` is the answer.
    """
    places = encoding.offsets
    learned = np.zeros(len(places), dtype=np.bool_)
    count = len(places)
    # Tokens that the tokenizer adds after the text stand at (0, 0).
    while count and places[count - 1] == (0, 0):
        count -= 1
    total = sum(len(piece.text) for piece in pieces)
    start = 0
    for piece in pieces:
        end = start + len(piece.text)
        if piece.learned and end > start:
            first = bisect_right(places, start, hi=count, key=_end) if start else 0
            last = bisect_right(places, end, hi=count, key=_end) if end < total else count
            learned[first:last] = True
        start = end
    return learned


def _end(place: tuple[int, int]) -> int:
    """The character after a token."""
    return place[1]
