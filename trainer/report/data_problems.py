"""What of prepared rows forbids training: it would run, and learn nothing of use."""

from collections.abc import Iterator, Sequence

import numpy as np

from trainer.config.data import Data
from trainer.config.recipe import Recipe
from trainer.data.encode import Encoder
from trainer.data.encoded import Encoded
from trainer.data.facts import Numbers
from trainer.errors import Problem
from trainer.report.data_facts import LabelFacts, Part

LOOKED_AT = 1000
"""Rows whose end is looked at to tell how many end with an end of turn."""


def problems(recipe: Recipe, train: Part, labels: Sequence[LabelFacts], ends: float | None) -> list[Problem]:
    """All of them; `ends` is what `ending_share` says."""
    found = [one_label(facts) for facts in labels]
    if recipe.task.kind == "causal_lm":
        found += [all_cut(recipe.data, train), no_end(recipe.data, ends)]
    return [problem for problem in found if problem is not None]


def one_label(labels: LabelFacts) -> Problem | None:
    """A model that gives every row the same label is right."""
    if labels.train > 1:
        return None
    [label] = [name for name, by_split in labels.labels.items() if "train" in by_split]
    message = f"the column {labels.column} has one label in all training rows, {label}; add rows with other labels"
    return Problem("data.train", message)


def all_cut(data: Data, train: Part) -> Problem | None:
    """The end of an answer is never seen. A table or a subgraph loses lines before its answer, which stays."""
    lengths = train.facts.length
    keeps_end = any(source.format in ("table", "triples") for source in data.train)
    if data.too_long == "split" or keeps_end or np.any(train.kept() >= lengths):
        return None
    shortest = int(lengths.min())
    message = (
        f"{data.max_length} cuts every training row before its end; the shortest has {shortest:,} tokens, so set it "
        f"to {shortest} or more"
    )
    return Problem("data.max_length", message)


def no_end(data: Data, ends: float | None) -> Problem | None:
    """A model that never learns to end its turn talks until it is cut off."""
    if ends is None or ends > 0 or all(source.format == "words" for source in data.train):
        return None
    message = (
        "no row teaches the model to end its turn: the last token that is learned is never a special one; "
        "use a chat template that ends the assistant's turn with one, or set data.template: plain"
    )
    return Problem("data.template", message)


def ending_share(train: Part, encoder: Encoder) -> float | None:
    """The share of the rows left whole whose learned part ends with a special token, such as an end of turn.

    Of LOOKED_AT rows, unless none of them does: then 0 is sure. None where every row is cut.
    """
    whole = np.flatnonzero((train.kept() >= train.facts.length)[train.row_of])
    if len(whole) == 0:
        return None
    # Of a row that was split, the last part ends it.
    last = whole[np.append(train.row_of[whole][1:] != train.row_of[whole][:-1], True)]
    looked_at = last[np.unique(np.linspace(0, len(last) - 1, LOOKED_AT).astype(np.int64))]
    share = sum(_ends(train, looked_at, encoder)) / len(looked_at)
    return round(share, 4) if share or len(looked_at) == len(last) else float(any(_ends(train, last, encoder)))


def _ends(train: Part, examples: Numbers, encoder: Encoder) -> Iterator[bool]:
    for number in examples.tolist():
        yield encoder.ends(Encoded(train.split.tokens(number), train.split.learned(number)))
