"""Rows that a finished run is asked about; they need not hold what was learned."""

from collections.abc import Sequence

from trainer.config.data import PseudoLabel, Source
from trainer.config.recipe import Recipe
from trainer.data.clean import Cleaner
from trainer.data.encode import Encoder
from trainer.data.encoded import Encoded
from trainer.data.example import Example
from trainer.data.findings import Findings
from trainer.data.reading import read_for
from trainer.data.row import BadRow, Row
from trainer.data.sources import read
from trainer.errors import Problem

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


def encoded(recipe: Recipe, encoder: Encoder, rows: Sequence[Example]) -> list[Encoded | str]:
    """The tokens of each example within `data.max_length`, or why there are none."""
    room = recipe.data.max_length
    return [row.message if isinstance(row, Problem) else row.cut(room) for row in encoder.encode(rows)]


def settings(recipe: Recipe, source: Source) -> PseudoLabel:
    """How a language model answers such rows."""
    return PseudoLabel(run="-", rows=(source,), max_tokens=recipe.evaluate.answer_tokens)
