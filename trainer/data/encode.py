"""From what rows say to tokens, and which of them are learned."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from trainer.config.recipe import Recipe
from trainer.config.relations import MARKERS
from trainer.data import runs, templates
from trainer.data.borders import Bordered, Counts
from trainer.data.conversations import Learn, Writer
from trainer.data.encoded import Encoded, Tokens
from trainer.data.example import Example
from trainer.data.formats import formats_of
from trainer.data.runs import Around, Next, Part, Places, Run, Special
from trainer.data.words import need_spaces, with_spaces
from trainer.errors import Problem, RecipeError

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

ENDED = frozenset({"completion", "text", "pair", "table", "triples"})
"""The formats whose rows end with the end-of-text token."""


@dataclass(frozen=True, slots=True)
class Planned:
    """Examples before they are tokens."""

    examples: Sequence[Example]
    plans: Sequence[list[Part] | Problem | None]
    """The texts of each example and the special tokens around them; None for words."""

    @property
    def runs(self) -> list[Run]:
        """The texts of all of them."""
        return [part for plan in self.plans if isinstance(plan, list) for part in plan if isinstance(part, Run)]


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
        self._room = recipe.data.max_length if recipe.data.too_long == "cut" else None
        self._all = recipe.data.learn == "all"
        self.writer: Writer | None = None
        if templates.writes_conversations(recipe):
            learn: Learn = recipe.data.learn if recipe.data.learn in ("all", "last_assistant") else "assistant"
            images = "image_text" in formats_of(recipe.data)
            self.writer = Writer(templates.choose(recipe, tokenizer), tokenizer, learn, images=images)
        self.task = recipe.task
        ended = sorted(formats_of(recipe.data) & ENDED) if self.task.learns_tokens else []
        if self.eos is None and ended:
            message = f"has no end-of-text token (eos_token), which {' and '.join(ended)} rows end with"
            raise RecipeError([Problem("model.tokenizer", message)])
        self._bordered = Bordered(self.backend)
        starts = (MARKERS[0], MARKERS[2]) if "relation" in formats_of(recipe.data) else ()
        self.needed = tuple(int(tokenizer.convert_tokens_to_ids(marker)) for marker in starts)
        """Tokens without which a row of a relation is of no use."""
        self._one, self._two = Around.one(tokenizer), Around.two(tokenizer)
        self._special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._spaced = need_spaces(self.backend)

    @property
    def identity(self) -> list[str]:
        """All that tokens depend on besides the rows and the settings of `data`."""
        written = [self.writer.template, str(self.writer.special)] if self.writer else []
        backend = hashlib.blake2b(self.backend.to_str().encode(), digest_size=16).hexdigest()
        return [backend, str(self.eos), str(self._two), *written, self.task.rows()]

    def encode(self, examples: Sequence[Example]) -> list[Encoded | Problem]:
        """The tokens of each example in order; a Problem where the chat template cannot write one."""
        written = self.write(examples)
        return self.join(written, self.tokens(written))

    def write(self, examples: Sequence[Example]) -> "Planned":
        """What is tokenised of the examples."""
        return Planned(examples, [None if example.words else self._plan(example) for example in examples])

    def tokens(self, written: "Planned") -> list[tuple[Tokens, Counts]]:
        """The tokens of each text; other threads go on meanwhile."""
        runs_of = written.runs
        return self._bordered.encode([run.text for run in runs_of], [run.ends for run in runs_of])

    def join(self, written: "Planned", tokens: Iterable[tuple[Tokens, Counts]]) -> list[Encoded | Problem]:
        """The tokens of each example from those of the texts."""
        found = iter(tokens)
        words = iter(self._encode_words([example for example in written.examples if example.words]))
        encoded: list[Encoded | Problem] = []
        for example, plan in zip(written.examples, written.plans, strict=True):
            if plan is None:
                encoded.append(next(words))
            elif isinstance(plan, Problem):
                encoded.append(plan)
            else:
                row = self._joined(example, plan, found)
                encoded.append(row if example.listing is None else self._within_room(example, row))
        return encoded

    def ends(self, row: Encoded) -> bool:
        """Whether the last token that is learned, white space aside, is a special one, such as an end of turn."""
        for token in row.tokens[row.learned][::-1].tolist():
            if token in self._special or token == self.eos:
                return True
            if self.backend.decode([token], skip_special_tokens=False).strip():
                return False
        return False

    def _plan(self, example: Example) -> list[Part] | Problem:
        """The texts of an example and the special tokens around them."""
        if example.messages:
            assert self.writer is not None, "conversations need a template"
            written = self.writer.write(example.messages, example.tools)
            return Problem(example.where, written) if isinstance(written, str) else [runs.of_conversation(written)]
        if example.images:
            # Without a text it is as long as its one stand-in.
            return [Special([0], [0])]
        if example.parts:
            return runs.of_parts(example, self._one, self._two)
        if example.sequences:
            return runs.of_sequences(example.sequences, example.pieces, self._two)
        return [self._one.start, runs.of_pieces(example), self._one.end]

    def _joined(self, example: Example, plan: list[Part], found: Iterator[tuple[Tokens, Counts]]) -> Encoded:
        """One row from the tokens of its texts; all but conversations end with the learned end-of-text token."""
        tokens: list[Tokens] = []
        places = Places()
        for part in plan:
            if isinstance(part, Next):
                places.next_part()
            elif isinstance(part, Special):
                tokens.append(np.array(part.ids, dtype=np.int32))
                places.special(part)
            else:
                ids, counts = next(found)
                tokens.append(ids)
                places.run(part, counts.tolist(), len(ids))
        ends = not example.messages and self.task.learns_tokens
        if ends and next((part[-1] for part in reversed(tokens) if len(part)), None) != self.eos:
            tokens.append(np.array([self.eos], dtype=np.int32))
            places.special(Special([0], [places.segment]))
        row = tokens[0] if len(tokens) == 1 else np.concatenate(tokens)
        mask = np.full(len(row), self._all, dtype=np.bool_)
        for start, end in places.learned if self.task.learns_tokens else ():
            mask[start:end] = True
        if ends:
            mask[places.starts[-1] if example.parts else -1 :] = True
        encoded = Encoded(row, mask)
        if example.parts or not self.task.learns_tokens:
            encoded = replace(encoded, tails=tuple(places.tails))
        if example.parts:
            encoded = replace(encoded, parts=places.numbers(len(row)))
        return replace(encoded, types=places.kinds(len(row))) if example.sequences or example.parts else encoded

    def _within_room(self, example: Example, row: Encoded) -> Encoded:
        """The row with as many lines of its listing as there is room for."""
        room = self._room
        if room is None or len(row.tokens) <= room:
            return row
        run = runs.of_pieces(example)
        [(_, counts)] = self._bordered.encode([run.text], [run.ends])
        # After the head, the end of each line.
        lines = counts[: len(run.ends) - len(example.pieces)]
        most = len(lines) - 1
        too_many = len(row.tokens) - room
        guess = int(np.searchsorted(-(lines[-1] - lines), -too_many, side="right")) - 1
        # Tokens may join over the border where lines were taken out.
        for kept in range(min(max(guess, 0) + 1, most - 1), -1, -1):
            plan: list[Part] = [self._one.start, runs.of_pieces(example, kept), self._one.end]
            texts = [part for part in plan if isinstance(part, Run)]
            found = self._bordered.encode([run.text for run in texts], [run.ends for run in texts])
            fewer = self._joined(example, plan, iter(found))
            if len(fewer.tokens) <= room or kept == 0:
                break
        return replace(fewer, left_out=most - kept, lost=len(row.tokens) - len(fewer.tokens))

    def _encode_words(self, examples: Sequence[Example]) -> list[Encoded]:
        """Words with the special tokens that the tokenizer adds; nothing is learned of them."""
        if not examples:
            return []
        texts = [with_spaces(example.words) if self._spaced else list(example.words) for example in examples]
        rows = []
        for encoding in self.backend.encode_batch(texts, is_pretokenized=True):
            words = np.array([-1 if word is None else word for word in encoding.word_ids], dtype=np.int32)
            tokens = np.array(encoding.ids, dtype=np.int32)
            rows.append(Encoded(tokens, np.zeros(len(tokens), dtype=np.bool_), words=words))
        return rows
