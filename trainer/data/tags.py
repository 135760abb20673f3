"""The tags of words, by number; the store numbers those that it met, in their order there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trainer.config.token_labels import OUTSIDE, TokenLabels
from trainer.data.facts import Numbers
from trainer.errors import DataError, Problem, did_you_mean

if TYPE_CHECKING:
    from trainer.data.corpus import Corpus

NOTHING = -100
"""What stands where no word begins."""


@dataclass(frozen=True)
class Tags:
    """The tags of a run."""

    names: tuple[str, ...]
    """In the order of the model's outputs."""
    numbers: Mapping[str, Numbers]
    """By split: the number of each mark of its store, int64; the last one is NOTHING, for marks of -1."""


def of_corpus(task: TokenLabels, corpus: "Corpus") -> Tags:
    """What a tagger learns; DataError where the training rows hold one tag alone, or others one that they lack."""
    marks = {split: corpus.marks(split) for split in corpus.rows}
    used = {split: corpus.split(split).present_marks() for split in corpus.rows}
    names = task.labels or tuple(
        sorted((marks["train"][mark] for mark in used["train"]), key=lambda tag: (tag != OUTSIDE, tag))
    )
    if len(names) < 2:
        message = f"all words have the tag {names[0]}" if names else "no row has a tag"
        raise DataError([Problem("data.train", f"{message}; there is nothing to tell apart")])
    for split, found in used.items():
        for mark in found:
            if marks[split][mark] not in names:
                raise DataError([_unseen(corpus, split, mark, marks[split][mark], names)])
    number = {name: place for place, name in enumerate(names)}
    return Tags(
        names,
        {
            split: np.array([*(number.get(tag, NOTHING) for tag in held), NOTHING], dtype=np.int64)
            for split, held in marks.items()
        },
    )


def _unseen(corpus: "Corpus", split: str, mark: int, tag: str, names: tuple[str, ...]) -> Problem:
    examples = corpus.split(split)
    first = next(row for row in range(len(examples)) if mark in examples.marks(row))
    where = corpus.facts(split).where(int(corpus.row_of(split)[first]))
    return Problem(where, f"the tag {tag} stands in no training row{did_you_mean(tag, names)}")
