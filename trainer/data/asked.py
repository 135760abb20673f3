"""Rows that a finished run is asked about; they need not hold what was learned."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainer.config.data import PseudoLabel, Source
from trainer.config.recipe import Recipe
from trainer.data.answers import ASKS_NOTHING, asks_nothing, probed
from trainer.data.clean import Cleaner
from trainer.data.encode import Encoder
from trainer.data.encoded import Encoded
from trainer.data.example import Example
from trainer.data.findings import Findings
from trainer.data.reading import read_for
from trainer.data.row import BadRow, Row
from trainer.data.sources import read
from trainer.errors import Problem

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

KEY = "--input"


def examples(recipe: Recipe, source: Source) -> list[Example | BadRow]:
    """What the rows say, in order; DataError where more are wrong than `data.max_bad_rows`."""
    findings, mend = Findings(recipe.data.max_bad_rows), Cleaner(recipe.data.clean).mend
    found: list[Example | BadRow] = []
    for seen, row in enumerate(read(source), start=1):
        example = read_for(recipe.task, row, source, KEY, answered=False) if isinstance(row, Row) else row
        if isinstance(example, Problem):
            findings.add(KEY, example)
        if isinstance(example, Example):
            found.append(example.with_text(mend))
        elif isinstance(example, BadRow):
            found.append(example)
        if findings.enough(KEY, seen):
            break
    findings.raise_if_any()
    return found


def encoded(recipe: Recipe, tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Example]) -> list[Encoded | str]:
    """The tokens of each example within `data.max_length`, or why there are none."""
    room, encoder = recipe.data.max_length, Encoder(recipe, tokenizer)
    return [row.message if isinstance(row, Problem) else row.cut(room) for row in encoder.encode(rows)]


def before_answers(
    recipe: Recipe, tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Example]
) -> list[Encoded | str]:
    """The tokens of each conversation with an answer that shows where one begins, or why there is nothing to answer."""
    data = recipe.data.model_copy(update={"learn": "last_assistant"})
    encoder = Encoder(recipe.model_copy(update={"data": data}), tokenizer)
    found: list[Encoded | str] = []
    for row, encoded in zip(rows, encoder.encode([probed(row) for row in rows]), strict=True):
        if asks_nothing(row):
            found.append(ASKS_NOTHING)
        elif isinstance(encoded, Problem):
            found.append(encoded.message)
        else:
            room, tokens = recipe.data.max_length, len(encoded.tokens)
            found.append(encoded if tokens <= room else f"has {tokens} tokens, more than data.max_length: {room}")
    return found


def settings(recipe: Recipe, source: Source) -> PseudoLabel:
    """How a language model answers such rows."""
    return PseudoLabel(run="-", rows=(source,), max_tokens=recipe.evaluate.answer_tokens)
