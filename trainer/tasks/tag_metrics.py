"""What is measured of tags: entities by seqeval, single tags by scikit-learn.

Of N examples, each with the numbers of the tags that were said [W] and of those that are right [W].
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.tasks import class_table
from trainer.tasks.class_table import ClassTable

Pairs = Sequence[tuple[Any, Any]]


def measure(scheme: str, names: Sequence[str], outputs: Pairs) -> dict[str, float]:
    """F1, precision and recall of whole entities, as conlleval counts them; without a scheme the macro F1 of tags."""
    from sklearn.metrics import accuracy_score, f1_score

    said, right = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
    found = {"accuracy": float(accuracy_score(right, said))}
    if scheme != "bio":
        return {"macro_f1": float(f1_score(right, said, average="macro", zero_division=0.0)), **found}
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

    of_right, of_said = _named(names, outputs)
    with _quiet():
        precision, recall, f1, _ = precision_recall_fscore_support(of_right, of_said, average="micro", zero_division=0)
    return {"f1": float(f1), "precision": float(precision), "recall": float(recall), **found}


def table(scheme: str, names: Sequence[str], outputs: Pairs) -> ClassTable:
    """Of entities by their type, or of tags."""
    if scheme != "bio":
        said, right = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
        return class_table.of_single(names, right, said)
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

    of_right, of_said = _named(names, outputs)
    kinds = sorted({kind for rows in (of_right, of_said) for row in rows for kind, _, _ in entities(row)})
    if not kinds:
        zeros = np.zeros(0)
        return ClassTable((), zeros, zeros, zeros, zeros)
    with _quiet():
        columns = precision_recall_fscore_support(of_right, of_said, average=None, zero_division=0)
    return ClassTable(tuple(kinds), *(np.asarray(column) for column in columns))


def entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """The type, the first word and the one after the last of each entity; one may begin with I-x, as in conlleval."""
    from seqeval.metrics.sequence_labeling import get_entities

    with _quiet():
        return [(kind, start, end + 1) for kind, start, end in get_entities(list(tags))]


def _named(names: Sequence[str], outputs: Pairs) -> tuple[list[list[str]], list[list[str]]]:
    said, right = ([[names[tag] for tag in row.tolist()] for row in rows] for rows in zip(*outputs, strict=True))
    return right, said


def _quiet() -> warnings.catch_warnings:
    """Seqeval tells of types that were never said, which the values tell too, and calls NumPy by older names."""
    return warnings.catch_warnings(action="ignore")
