"""What a classifier learns of each example: the number of its label, the numbers of several, or a number.

N examples, L labels.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.config.classify import Classify
from trainer.config.relations import Relations
from trainer.data.facts import Column, Facts, Numbers
from trainer.data.fields import names
from trainer.errors import DataError, Problem, RecipeError, did_you_mean

if TYPE_CHECKING:
    from trainer.data.corpus import Corpus

Labelled = Classify | Relations
"""The tasks whose rows have labels in a column."""
SHOWN = 20
"""Rows with wrong labels that are told of, and labels that a message names."""


@dataclass(frozen=True)
class Labels:
    """The labels of a run."""

    names: tuple[str, ...]
    """In the order of the model's outputs; one empty name for a number."""
    targets: Mapping[str, Numbers] = field(default_factory=dict)
    """By split: int64 [N], float32 [N, L] of zeros and ones for several labels, or float32 [N]."""


def of_corpus(task: Labelled, corpus: "Corpus") -> Labels:
    """What a classifier learns; DataError for labels that do not fit."""
    facts = {split: corpus.facts(split) for split in corpus.rows}
    labels = label_names(task, facts["train"].columns[task.label])
    made = {split: targets(task, labels, facts[split])[corpus.row_of(split)] for split in facts}
    return Labels(labels, made)


def name_of(value: object) -> str:
    """A label as it is told and saved: text as it is, other values as JSON writes them."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def label_names(task: Labelled, train: Column) -> tuple[str, ...]:
    """The labels in the order of the model's outputs, one empty name for a number.

    DataError where the training rows hold fewer than two; RecipeError where nothing tells their order.
    """
    if task.problem == "regression":
        return ("",)
    if task.labels is not None:
        return task.labels
    present = [train.values[code] for code in np.unique(train.codes).tolist()]
    found = {name_of(label): label for value in present for label in _labels(value)}
    if len(found) < 2:
        only = f"the one label {next(iter(found))}" if found else "no label"
        message = f"hold {only} in the column {task.label}; add rows with other labels, or name another task.label"
        raise DataError([Problem("data.train", f"all rows {message}")])
    numeric = all(isinstance(label, int | float) and not isinstance(label, bool) for label in found.values())
    if task.problem == "ordinal" and not numeric:
        message = f"is needed, from the lowest to the highest, since {', '.join(sorted(found)[:SHOWN])} are no numbers"
        raise RecipeError([Problem("task.labels", message)])
    return tuple(sorted(found, key=float if numeric else None))


def wrong_label(task: Labelled, row: Mapping[str, Any]) -> str | None:
    """What is wrong with the label of a row, whatever the others hold."""
    value = row.get(task.label)
    if value is None:
        what = "is null" if task.label in row else "is missing"
        return f"{task.label} {what}, which task.label names; the row has {names(row)}"
    if task.problem == "regression":
        number = _number(value)
        if number is None:
            return f"{task.label} is {name_of(value)}, which is no number, as task.problem: regression needs"
    elif isinstance(value, list) and task.problem != "multiple":
        return f"{task.label} is a list; set task.problem: multiple"
    elif task.labels is not None:
        unknown = [name for name in map(name_of, _labels(value)) if name not in task.labels]
        if unknown:
            return _unknown(task, unknown[0], task.labels)
    return None


def targets(task: Labelled, labels: Sequence[str], facts: Facts) -> Numbers:
    """The targets of N rows, as `Labels` has them; DataError names rows whose label no training row has."""
    column = facts.columns[task.label]
    if task.problem == "regression":
        return np.array([_number(value) for value in column.values], dtype=np.float32)[column.codes]
    number = {name: place for place, name in enumerate(labels)}
    # By value: the numbers of its labels.
    places = [[number.get(name_of(label), -1) for label in _labels(value)] for value in column.values]
    unseen = [code for code, some in enumerate(places) if -1 in some]
    bad = np.flatnonzero(np.isin(column.codes, unseen))
    if len(bad):
        raise DataError([_unseen(task, row, labels, facts) for row in bad[:SHOWN].tolist()])
    if task.problem != "multiple":
        return np.array([some[0] for some in places], dtype=np.int64)[column.codes]
    made = np.zeros((len(places), len(labels)), dtype=np.float32)
    for code, some in enumerate(places):
        made[code, some] = 1.0
    return made[column.codes]


def _unseen(task: Labelled, row: int, labels: Sequence[str], facts: Facts) -> Problem:
    column = facts.columns[task.label]
    found = map(name_of, _labels(column.values[column.codes[row]]))
    return Problem(facts.where(row), _unknown(task, next(name for name in found if name not in labels), labels))


def _unknown(task: Labelled, name: str, labels: Sequence[str]) -> str:
    which = "task.labels" if task.labels is not None else "the training rows"
    return f"{task.label} is {name}, which is no label of {which}{did_you_mean(name, labels[:SHOWN])}"


def _labels(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _number(value: Any) -> float | None:
    """A finite number, which CSV holds as text; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
