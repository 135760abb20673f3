"""The knowledge graph of a run: its entities and relations by number, and what is known to be true.

N examples, E entities. A question is an entity and a relation or its inverse: relation r from the head is 2r, and back
from the tail 2r + 1.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.config.kg_completion import KgCompletion
from trainer.data.encoded import Encoded
from trainer.data.fields import scalar_of
from trainer.data.triple import HEAD, TAIL, readable
from trainer.errors import DataError, Problem, did_you_mean

if TYPE_CHECKING:
    from trainer.data.corpus import Corpus

Ids = np.ndarray[Any, np.dtype[np.int64]]
Question = tuple[int, int]


@dataclass(frozen=True)
class Graph:
    """All splits together."""

    entities: tuple[str, ...]
    """As the files name them, sorted."""
    relations: tuple[str, ...]
    triples: Mapping[str, Ids]
    """By split: head, relation and tail of each example [N, 3]."""
    encoded: Sequence[Encoded]
    """The tokens of each entity [E]."""
    known: Mapping[Question, Ids]
    """The entities that answer a question, in any split."""

    def questions(self, triples: Ids) -> tuple[list[Question], Ids]:
        """The two questions of each triple [2N], by the head and back, and their answers [2N]."""
        asked = [
            question
            for head, relation, tail in triples.tolist()
            for question in ((head, 2 * relation), (tail, 2 * relation + 1))
        ]
        return asked, triples[:, [2, 0]].reshape(-1)

    def others(self, triples: Ids) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """The entities that are right too, besides the answer of each question [2N, E]."""
        asked, answers = self.questions(triples)
        found = np.zeros((len(asked), len(self.entities)), dtype=np.bool_)
        for place, (question, answer) in enumerate(zip(asked, answers.tolist(), strict=True)):
            found[place, self.known[question]] = True
            found[place, answer] = False
        return found


def of_corpus(task: KgCompletion, corpus: "Corpus") -> Graph:
    """The graph; DataError for relations that no training row has, or where there are too few entities."""
    named = {split: _names(task, corpus, split) for split in corpus.rows}
    entities = tuple(sorted({name for rows in named.values() for row in rows for name in (row[0], row[2])}))
    relations = tuple(sorted({row[1] for row in named["train"]}))
    if len(entities) < 2:
        raise DataError([Problem("data.train", f"holds {len(entities)} entity; there is nothing to choose from")])
    number, relation_of = ({name: place for place, name in enumerate(some)} for some in (entities, relations))
    triples = {}
    for split, rows in named.items():
        unknown = next((place for place, row in enumerate(rows) if row[1] not in relation_of), None)
        if unknown is not None:
            where = corpus.facts(split).where(int(corpus.row_of(split)[unknown]))
            name = rows[unknown][1]
            raise DataError(
                [Problem(where, f"{task.relation} {name} is in no training row{did_you_mean(name, relations)}")]
            )
        numbers = [(number[head], relation_of[relation], number[tail]) for head, relation, tail in rows]
        triples[split] = np.array(numbers, dtype=np.int64).reshape(-1, 3)
    encoded = _encoded(corpus, triples, len(entities))
    return Graph(entities, relations, triples, encoded, known_of(triples.values()))


def known_of(triples: Iterable[Ids]) -> dict[Question, Ids]:
    """The answers of each question."""
    found: dict[Question, set[int]] = defaultdict(set)
    for some in triples:
        for head, relation, tail in some.tolist():
            found[head, 2 * relation].add(tail)
            found[tail, 2 * relation + 1].add(head)
    return {question: np.array(sorted(answers), dtype=np.int64) for question, answers in found.items()}


def joined(question: Encoded, entity: Encoded) -> Encoded:
    """A question and an entity as one text; the token that both begin with stands once."""
    first = int(len(entity.tokens) > 1 and len(question.tokens) > 0 and entity.tokens[0] == question.tokens[0])
    tokens = np.concatenate([question.tokens, entity.tokens[first:]])
    types = np.concatenate([np.zeros(len(question.tokens), np.int8), np.ones(len(entity.tokens) - first, np.int8)])
    return Encoded(tokens, np.zeros(len(tokens), np.bool_), types=types)


def _names(task: KgCompletion, corpus: "Corpus", split: str) -> list[tuple[str, str, str]]:
    """Head, relation and tail of each example."""
    facts = corpus.facts(split)
    columns = []
    for name in task.columns():
        column = facts.columns[name]
        names = [readable("" if value is None else scalar_of(name, value)) for value in column.values]
        columns.append([names[code] for code in column.codes[corpus.row_of(split)].tolist()])
    return list(zip(*columns, strict=True))


def _encoded(corpus: "Corpus", triples: Mapping[str, Ids], count: int) -> list[Encoded]:
    """The tokens of each entity, from the first example that names it."""
    found: dict[int, Encoded] = {}
    for split, ids in triples.items():
        examples = corpus.split(split)
        for column, part in ((2, TAIL), (0, HEAD)):
            numbers, firsts = np.unique(ids[:, column], return_index=True)
            for number, row in zip(numbers.tolist(), firsts.tolist(), strict=True):
                if number not in found:
                    found[number] = examples.example(row).apart()[part]
    return [found[number] for number in range(count)]
