"""What a row says to a task, or what is wrong with it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from trainer.config.data import Source
from trainer.config.joint_relations import RELATIONS
from trainer.config.task import Task
from trainer.config.token_labels import wrong_in
from trainer.data.example import Example
from trainer.data.fields import Fields, Wrong, names
from trainer.data.formats import parse
from trainer.data.ranking import wrong_relevance
from trainer.data.row import Row
from trainer.data.sources import read
from trainer.data.targets import wrong_label
from trainer.data.triple import triple
from trainer.errors import Problem, did_you_mean


def read_for(task: Task, row: Row, source: Source, key: str, *, answered: bool = True) -> Example | Problem:
    """What a row says, checked for what the task learns of it; `key` is the source's own.

    Unless `answered` it need not hold what is learned.
    """
    reader = _READERS.get(task.kind, _as_its_format_says)
    return reader(task, row, source, key, answered)


def read_all(task: Task, key: str, source: Source) -> Iterator[Example | Problem]:
    """What the rows of a source say, in order; a Problem stands where one is wrong. `key` is the source's own."""
    for row in read(source):
        yield read_for(task, row, source, key) if isinstance(row, Row) else row


def _as_its_format_says(task: Any, row: Row, source: Source, key: str, answered: bool) -> Example | Problem:
    return parse(row, source, key, answered=answered)


def _shown(task: Any, row: Row, source: Source, key: str, answered: bool) -> Example | Problem:
    """What the model sees; nothing stands beside it."""
    return parse(row, source, key, answered=False)


def _labelled(task: Any, row: Row, source: Source, key: str, answered: bool) -> Example | Problem:
    """A text, or several; the label stands in a column of its own."""
    example = parse(row, source, key, answered=False)
    wrong = wrong_label(task, row.values) if answered and not isinstance(example, Problem) else None
    return example if wrong is None else row.bad(wrong)


def _tagged(task: Any, row: Row, source: Source, key: str, answered: bool) -> Example | Problem:
    """Words, each with a tag of the scheme."""
    example = parse(row, source, key, answered=answered)
    if isinstance(example, Problem) or not answered:
        return example if isinstance(example, Problem) else replace(example, tags=())
    column = source.fields.get("tags", "tags")
    if not example.tags:
        return row.bad(f"{column} is missing, which task.kind: token_labels learns; the row has {names(row.values)}")
    wrong = wrong_in(example.tags) if task.scheme == "bio" else None
    if wrong is not None:
        place, why = wrong
        return row.bad(f"{column}.{place} is {example.tags[place]} (the word {example.words[place]}), which {why}")
    for place, tag in enumerate(example.tags if task.labels is not None else ()):
        if tag not in task.labels:
            unknown = f"which is no label of task.labels{did_you_mean(tag, task.labels)}"
            return row.bad(f"{column}.{place} is {tag} (the word {example.words[place]}), {unknown}")
    return example


def _related(task: Any, row: Row, source: Source, key: str, answered: bool) -> Example | Problem:
    """Words, the entities among them and their relations, of the types that the task names."""
    example = parse(row, source, key, answered=answered)
    if isinstance(example, Problem) or not answered:
        return example
    types = {tag.partition("-")[2].rpartition(" ")[0] for tag in example.tags if tag.startswith("B-")}
    for name, known, found in (
        ("entities", task.entities, types),
        ("relations", task.relations, {label for *_, label in example.columns[RELATIONS]}),
    ):
        unknown = sorted(found - {*known}) if known is not None else []
        if unknown:
            column = source.fields.get(name, name)
            message = f"{column} holds {unknown[0]}, which is none of task.{name}{did_you_mean(unknown[0], known)}"
            return row.bad(message)
    return example


def _triple(task: Any, row: Row, source: Source, key: str, answered: bool) -> Example | Problem:
    """An entity, a relation and another entity, in the columns that the task names."""
    try:
        return triple(Fields(row, source, key, answered), task.columns())
    except Wrong as wrong:
        return row.bad(str(wrong))


def _candidates(task: Any, row: Row, source: Source, key: str, answered: bool) -> Example | Problem:
    """A query with candidates, and how good each of them is."""
    example = parse(row, source, key, answered=answered)
    if isinstance(example, Problem) or not answered:
        return example
    if task.relevance not in row.values:
        return row.bad(f"{task.relevance} is missing, which task.relevance names; the row has {names(row.values)}")
    wrong = wrong_relevance(task.relevance, row.values[task.relevance], len(example.parts))
    return example if wrong is None else row.bad(wrong)


def _of_its_task(task: Any, row: Row, source: Source, key: str, answered: bool) -> Example | Problem:
    """What the task of its source learns."""
    return read_for(task.tasks[source.task], row, source, key, answered=answered)


def _source_and_target(task: Any, row: Row, source: Source, key: str, answered: bool) -> Example | Problem:
    """Two texts that the model reads apart; the second one is empty where it need not be there."""
    example = parse(row, source, key, answered=answered)
    if isinstance(example, Problem):
        return example
    asked, wanted = (*(piece.text for piece in example.pieces), "")[:2]
    if answered and not wanted.strip():
        column = source.fields.get("completion", "completion")
        return row.bad(f"{column} is empty, so there is nothing to learn; leave the row out or give it text")
    return replace(example, pieces=(), parts=((task.prefix + asked,), (wanted,)))


_READERS: Mapping[str, Callable[[Any, Row, Source, str, bool], Example | Problem]] = {
    "classify": _labelled,
    "joint_relations": _related,
    "kg_completion": _triple,
    "masked_lm": _shown,
    "multi_task": _of_its_task,
    "relations": _labelled,
    "rerank": _candidates,
    "seq2seq": _source_and_target,
    "token_labels": _tagged,
}
"""By `task.kind`; the others learn what their formats say."""
