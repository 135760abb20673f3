"""The labels of rows: a column holds one for each row, or a list of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trainer.data.facts import Column, Facts, Numbers


@dataclass(frozen=True)
class Labels:
    """N rows with K pairs of a row and one of its labels."""

    names: tuple[str, ...]
    """The labels as JSON writes them, sorted, so that they do not depend on the order of the rows."""
    row: Numbers
    """The row of each pair, int64 [K], sorted."""
    label: Numbers
    """The number in `names` of its label, int64 [K]."""

    def counts(self) -> Numbers:
        """Rows with each label, int64 [L]."""
        return np.bincount(self.label, minlength=len(self.names))


def labels_of(column: Column) -> Labels:
    """The labels of a column; null is a label among single labels, and none at all among lists."""
    lists = any(isinstance(value, list) for value in column.values)
    sets = [_names(value, lists) for value in column.values]
    names = sorted({name for names in sets for name in names})
    number = {name: place for place, name in enumerate(names)}
    flat = np.array([number[name] for names in sets for name in names], dtype=np.int64)
    lengths = np.array([len(names) for names in sets], dtype=np.int64)
    counts = lengths[column.codes]
    row = np.repeat(np.arange(len(column.codes)), counts)
    within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = (np.cumsum(lengths) - lengths)[column.codes]
    return Labels(tuple(names), row, flat[np.repeat(first, counts) + within])


def _names(value: object, lists: bool) -> list[str]:
    if lists and not isinstance(value, list):
        value = [] if value is None else [value]
    return sorted({_name(one) for one in value}) if isinstance(value, list) else [_name(value)]


def _name(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


@dataclass(frozen=True)
class Unseen:
    """A label that no training row has."""

    split: str
    label: str
    """As JSON writes it."""
    rows: int
    """How many rows of the split have it."""
    where: str
    """`file:line` of the first."""

    def __str__(self) -> str:
        rows = f"{self.rows:,} row{'s' if self.rows > 1 else ''}"
        return f"{self.where}: the label {self.label} stands in {rows} of {self.split} and in no training row"


def unseen_labels(column: str, train: Facts, others: Mapping[str, Facts]) -> list[Unseen]:
    """The labels of other splits that no training row has: nothing can be learned of them."""
    own = labels_of(train.columns[column])
    known = {own.names[label] for label in np.unique(own.label)}
    unseen = []
    for split, facts in others.items():
        labels = labels_of(facts.columns[column])
        present, first, counts = np.unique(labels.label, return_index=True, return_counts=True)
        unseen += [
            Unseen(split, labels.names[label], int(count), facts.where(int(labels.row[place])))
            for label, place, count in zip(present, first, counts, strict=True)
            if labels.names[label] not in known
        ]
    return unseen
