"""The entities of sentences and the relations among them, by number.

A mark of the store is a tag, and the number of its entity after a space. N examples, K relations of one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trainer.config.joint_relations import RELATIONS, JointRelations
from trainer.config.token_labels import OUTSIDE
from trainer.data.facts import Numbers
from trainer.data.tags import NOTHING
from trainer.errors import DataError, Problem, did_you_mean

if TYPE_CHECKING:
    from trainer.data.corpus import Corpus

Links = np.ndarray[tuple[int, int], np.dtype[np.int64]]


@dataclass(frozen=True)
class Sentences:
    """What a run learns of them."""

    tags: tuple[str, ...]
    """BIO, in the order of the model's outputs."""
    relations: tuple[str, ...]
    """In the order of the model's outputs."""
    numbers: Mapping[str, Numbers]
    """By split: the number of the tag of each mark of its store; the last one is NOTHING, for marks of -1."""
    begun: Mapping[str, Numbers]
    """By split: the entity that begins with each mark; -1 where none does. The last place is that of -1."""
    links: Mapping[str, Sequence[Links]]
    """By split: the entity that is the head, the one that is the tail, and the relation [N] of [K, 3]."""


def tags_of(types: Sequence[str]) -> tuple[str, ...]:
    """The tags of entities of these types."""
    return (OUTSIDE, *(f"{begin}-{kind}" for kind in types for begin in "BI"))


def of_corpus(task: JointRelations, corpus: "Corpus") -> Sentences:
    """What the sentences of a corpus hold; DataError where there is nothing to learn, or others hold what the training
    rows lack.
    """
    marks = {split: [_parts(mark) for mark in corpus.marks(split)] for split in corpus.rows}
    used = {split: {kind for kind in _types(corpus, split, marks[split]) if kind} for split in corpus.rows}
    lists = {split: _lists(corpus, split) for split in corpus.rows}
    types = task.entities or tuple(sorted(used["train"]))
    relations = task.relations or tuple(sorted({label for row in lists["train"] for *_, label in row}))
    for name, found in (("entities", types), ("relations", relations)):
        if not found:
            raise DataError([Problem("data.train", f"no row holds {name}; there is nothing to learn")])
    for split, rows in lists.items():
        for unseen in sorted(used[split] - {*types}):
            raise DataError([Problem(_first(corpus, split, unseen, marks[split]), _unseen("entity", unseen, types))])
        for place, row in enumerate(rows):
            for *_, label in row:
                if label not in relations:
                    where = corpus.facts(split).where(int(corpus.row_of(split)[place]))
                    raise DataError([Problem(where, _unseen("relation", label, relations))])
    tags, number = tags_of(types), {label: place for place, label in enumerate(relations)}
    tag_of = {tag: place for place, tag in enumerate(tags)}
    return Sentences(
        tags,
        relations,
        {
            split: np.array([*(tag_of.get(tag, NOTHING) for tag, _ in held), NOTHING], dtype=np.int64)
            for split, held in marks.items()
        },
        {
            split: np.array([*(entity if tag.startswith("B-") else -1 for tag, entity in held), -1], dtype=np.int64)
            for split, held in marks.items()
        },
        {
            split: [
                np.array([(head, tail, number[label]) for head, tail, label in row], dtype=np.int64).reshape(-1, 3)
                for row in rows
            ]
            for split, rows in lists.items()
        },
    )


def _parts(mark: str) -> tuple[str, int]:
    """The tag of a mark and the number of its entity; -1 outside of any."""
    if mark == OUTSIDE:
        return mark, -1
    tag, _, number = mark.rpartition(" ")
    return tag, int(number)


def _types(corpus: "Corpus", split: str, marks: Sequence[tuple[str, int]]) -> set[str]:
    """The types of the entities of a split's own rows."""
    return {marks[mark][0].partition("-")[2] for mark in corpus.split(split).present_marks()}


def _lists(corpus: "Corpus", split: str) -> list[list[tuple[int, int, str]]]:
    """The relations of each example."""
    column = corpus.facts(split).columns[RELATIONS]
    return [column.values[code] for code in column.codes[corpus.row_of(split)].tolist()]


def _first(corpus: "Corpus", split: str, kind: str, marks: Sequence[tuple[str, int]]) -> str:
    """`file:line` of the first row with an entity of this type."""
    wanted = [number for number, (tag, _) in enumerate(marks) if tag.partition("-")[2] == kind]
    examples = corpus.split(split)
    first = next(row for row in range(len(examples)) if np.isin(wanted, examples.marks(row)).any())
    return corpus.facts(split).where(int(corpus.row_of(split)[first]))


def _unseen(what: str, name: str, known: Sequence[str]) -> str:
    return f"the {what} {name} stands in no training row{did_you_mean(name, known)}"
