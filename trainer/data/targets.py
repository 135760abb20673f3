"""What a classifier learns of each example: the number of its label, the numbers of several, or a number.

N examples, L labels.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.config.task import Task
from trainer.data.facts import Column, Facts, Numbers
from trainer.errors import DataError, Problem, did_you_mean

if TYPE_CHECKING:
    from trainer.data.corpus import Corpus

SHOWN = 20
"""Rows with wrong labels that are told of, and labels that a message names."""


@dataclass(frozen=True)
class Labels:
    """The labels of a run."""

    names: tuple[str, ...]
    """In the order of the model's outputs; one empty name for a number."""
    targets: Mapping[str, Numbers]
    """By split: int64 [N], float32 [N, L] of zeros and ones for several labels, or float32 [N]."""


def of_corpus(task: Task, corpus: "Corpus") -> Labels | None:
    """What a classifier learns; None where the task learns tokens. DataError for labels that do not fit."""
    if task.kind != "classify":
        return None
    facts = {split: corpus.facts(split) for split in corpus.rows}
    names = label_names(task, facts["train"].columns[task.label])
    made = {split: targets(task, names, facts[split])[corpus.row_of(split)] for split in facts}
    return Labels(names, made)


def name_of(value: object) -> str:
    """A label as it is told and saved: text as it is, other values as JSON writes them."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def label_names(task: Task, train: Column) -> tuple[str, ...]:
    """The labels in the order of the model's outputs, one empty name for a number.

    DataError where the training rows hold fewer than two.
    """
    if task.problem == "regression":
        return ("",)
    if task.labels is not None:
        return task.labels
    present = [train.values[code] for code in np.unique(train.codes).tolist()]
    found = {name_of(label): label for value in present for label in _labels(value, task)}
    if len(found) < 2:
        only = f"the one label {next(iter(found))}" if found else "no label"
        message = f"hold {only} in the column {task.label}; add rows with other labels, or name another task.label"
        raise DataError([Problem("data.train", f"all rows {message}")])
    numeric = all(isinstance(label, int | float) for label in found.values())
    return tuple(sorted(found, key=float if numeric and not _holds_truths(found.values()) else None))


def targets(task: Task, names: Sequence[str], facts: Facts) -> Numbers:
    """The targets of N rows, as `Labels` has them; DataError names the rows whose label does not fit."""
    column = facts.columns[task.label]
    number = {name: place for place, name in enumerate(names)}
    made, wrong = list[Any](), dict[int, str]()
    for code, value in enumerate(column.values):
        try:
            made.append(_target(value, task, number))
        except ValueError as error:
            wrong[code] = str(error)
            made.append(None)
    bad = np.flatnonzero(np.isin(column.codes, list(wrong)))
    if len(bad):
        raise DataError([Problem(facts.where(row), wrong[int(column.codes[row])]) for row in bad[:SHOWN].tolist()])
    # A value that stands in rows of other splits only is of no use here.
    empty = next((one for one in made if one is not None), 0)
    values = np.array([empty if one is None else one for one in made])
    return values[column.codes].astype(np.int64 if task.problem == "single" else np.float32)


def _target(value: Any, task: Task, number: dict[str, int]) -> Any:
    if task.problem == "regression":
        if isinstance(value, str):
            value = _number(value)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise ValueError(f"{task.label} is {name_of(value)}, which is no number, as task.problem: regression needs")
        return value
    places = []
    for label in _labels(value, task):
        name = name_of(label)
        if name not in number:
            which = "task.labels" if task.labels is not None else "the training rows"
            hint = did_you_mean(name, [*number][:SHOWN])
            raise ValueError(f"{task.label} is {name}, which is no label of {which}{hint}")
        places.append(number[name])
    if task.problem == "single":
        return places[0]
    return [float(place in places) for place in range(len(number))]


def _labels(value: Any, task: Task) -> list[Any]:
    """The labels of one row; ValueError where the value is not as `task.problem` says."""
    if task.problem == "multiple":
        return value if isinstance(value, list) else [value]
    if isinstance(value, list):
        raise ValueError(f"{task.label} is a list; set task.problem: multiple")
    return [value]


def _number(text: str) -> float | str:
    """CSV knows text alone."""
    try:
        return float(text)
    except ValueError:
        return text


def _holds_truths(values: Any) -> bool:
    return any(isinstance(value, bool) for value in values)
