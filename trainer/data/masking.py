"""Which tokens of a row are masked: drawn by seed, epoch and row alone, so that no batch and no rank changes them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.data.encoded import Encoded, Tokens
from trainer.errors import Problem, RecipeError

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

Flags = np.ndarray[Any, np.dtype[np.bool_]]
Places = np.ndarray[Any, np.dtype[np.signedinteger[Any]]]
MASKED, RANDOM = 0.8, 0.1
"""Of the tokens that are learned, those that become the mask and those that become any other (Devlin et al. 2019)."""
_SPACES = ("\u0120", "\u2581")
"""How byte-level BPE and SentencePiece write the space before a word."""


@dataclass(frozen=True)
class Masking:
    """What can be masked, and what stands in its place. V tokens in the vocabulary, S in a row."""

    mask: int
    share: float
    ordinary: Tokens
    """The tokens of texts, special ones left out."""
    special: Flags
    """[V]."""
    goes_on: Flags | None = None
    """Which tokens go on with the word before them [V]; None where each token is drawn by itself."""

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase", share: float, *, whole_words: bool) -> "Masking":
        """Of a tokenizer; RecipeError where it has no mask, or does not tell where words begin."""
        if tokenizer.mask_token_id is None:
            message = "has no mask token, which task.kind: masked_lm hides tokens with; name an encoder's tokenizer"
            raise RecipeError([Problem("model.tokenizer", message)])
        special = np.zeros(len(tokenizer), dtype=np.bool_)
        special[[number for number in tokenizer.all_special_ids if number < len(special)]] = True
        return cls(
            mask=int(tokenizer.mask_token_id),
            share=share,
            ordinary=np.flatnonzero(~special).astype(np.int32),
            special=special,
            goes_on=_goes_on(tokenizer) if whole_words else None,
        )

    def drawn(self, tokens: Tokens, generator: np.random.Generator) -> tuple[Tokens, Flags]:
        """The row as the model sees it [S], and which tokens it learns [S]; both are new."""
        usable = np.flatnonzero(~self.special[tokens])
        learned = np.zeros(len(tokens), dtype=np.bool_)
        if not len(usable):
            return tokens.copy(), learned
        wanted = max(1, round(self.share * len(usable)))
        for word in self._words(tokens, usable, generator):
            if int(learned.sum()) >= wanted:
                break
            learned[word] = True
        places = np.flatnonzero(learned)
        chance = generator.random(len(places))
        anything = generator.choice(self.ordinary, len(places))
        seen = tokens.copy()
        seen[places[chance < MASKED]] = self.mask
        random = (chance >= MASKED) & (chance < MASKED + RANDOM)
        seen[places[random]] = anything[random]
        return seen, learned

    def _words(self, tokens: Tokens, usable: Places, generator: np.random.Generator) -> list[Places]:
        """The places of each word, or of each token, in a drawn order."""
        if self.goes_on is None:
            return list(generator.permutation(usable)[:, None])
        # A word begins where a token does not go on, and after a special one.
        begins = ~self.goes_on[tokens[usable]] | (np.diff(usable, prepend=-2) != 1)
        words = np.split(usable, np.flatnonzero(begins)[1:])
        return [words[number] for number in generator.permutation(len(words))]


def with_second(first: Encoded, other: Encoded, room: int) -> Encoded:
    """The first text of a pair before the second one of another, within `room` tokens; its last token stays."""
    assert first.types is not None, "pairs tell their texts apart"
    assert other.types is not None, "pairs tell their texts apart"
    before, after = first.at(first.types == 0), other.at(other.types == 1)
    kept = max(1, room - len(before.tokens))
    if len(after.tokens) > kept:
        after = after.at(np.r_[0 : kept - 1, len(after.tokens) - 1])
    held = [(before.tokens, after.tokens), (before.learned, after.learned), (before.types, after.types)]
    return Encoded(*(np.concatenate(parts) for parts in held))  # type: ignore[arg-type]


def _goes_on(tokenizer: "PreTrainedTokenizerBase") -> Flags:
    """Which tokens go on with the word before them [V], as their own letters say."""
    names: list[str] = [str(name) for name in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))]
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    prefix = getattr(getattr(backend, "model", None), "continuing_subword_prefix", None)
    if prefix:
        return np.array([name.startswith(prefix) for name in names])
    space = next((mark for mark in _SPACES if any(name.startswith(mark) for name in names)), None)
    if space is None:
        message = "does not write where words begin, as whole words need; set task.masking: token"
        raise RecipeError([Problem("model.tokenizer", message)])
    # A comma is a word of its own.
    return np.array([not name.startswith(space) and name[:1].isalnum() for name in names])
