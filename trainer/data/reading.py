"""What a row says to a task, or what is wrong with it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from trainer.config.data import Source
from trainer.config.task import Task
from trainer.data.example import Example
from trainer.data.formats import parse
from trainer.data.row import Row
from trainer.data.targets import wrong_label
from trainer.errors import Problem


def read_for(task: Task, row: Row, source: Source, key: str) -> Example | Problem:
    """What a row says, checked for what the task learns of it; `key` is the source's own."""
    reader = _READERS.get(task.kind)
    return parse(row, source, key) if reader is None else reader(task, row, source, key)


def _labelled(task: Any, row: Row, source: Source, key: str) -> Example | Problem:
    """A text, or several; the label stands in a column of its own."""
    example = parse(row, source, key, answered=False)
    wrong = None if isinstance(example, Problem) else wrong_label(task, row.values)
    return example if wrong is None else row.bad(wrong)


def _source_and_target(task: Any, row: Row, source: Source, key: str) -> Example | Problem:
    """Two texts that the model reads apart."""
    example = parse(row, source, key)
    if isinstance(example, Problem):
        return example
    asked, wanted = (piece.text for piece in example.pieces)
    if not wanted.strip():
        column = source.fields.get("completion", "completion")
        return row.bad(f"{column} is empty, so there is nothing to learn; leave the row out or give it text")
    return replace(example, pieces=(), parts=((task.prefix + asked,), (wanted,)))


_READERS: Mapping[str, Callable[[Any, Row, Source, str], Example | Problem]] = {
    "classify": _labelled,
    "seq2seq": _source_and_target,
}
"""By `task.kind`; the others learn what their formats say."""
