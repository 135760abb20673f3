"""What a row says to a task, or what is wrong with it."""

from collections.abc import Callable, Mapping
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


_READERS: Mapping[str, Callable[[Any, Row, Source, str], Example | Problem]] = {"classify": _labelled}
"""By `task.kind`; the others learn what their formats say."""
