"""How well each label is told from the others. N examples, L labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Numbers = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class ClassTable:
    """Precision, recall and F1 of each label, and what was said in its place."""

    names: tuple[str, ...]
    precision: Numbers
    """[L]; 0 where a label was never said."""
    recall: Numbers
    """[L]; 0 where no example has the label."""
    f1: Numbers
    support: Numbers
    """Examples with each label [L]."""
    confusion: Numbers | None = None
    """Examples by label (rows) and by what was said (columns) [L, L]; None where an example may have several."""

    def rows(self) -> Iterator[tuple[str, float, float, float, int]]:
        """Name, precision, recall, F1 and examples of each label."""
        columns = (self.precision, self.recall, self.f1, self.support)
        yield from zip(self.names, *(column.tolist() for column in columns), strict=True)

    def confused(self) -> list[tuple[str, str, int]]:
        """A label, what was said in its place, and how often; the most frequent first."""
        if self.confusion is None:
            return []
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        pairs = [(int(count), *map(int, place)) for place, count in np.ndenumerate(wrong) if count]
        ordered = sorted(pairs, key=lambda pair: (-pair[0], *pair[1:]))
        return [(self.names[label], self.names[said], count) for count, label, said in ordered]

    def markdown(self) -> str:
        """The same as a table."""
        lines = ["| label | precision | recall | F1 | examples |", "|---|---|---|---|---|"]
        for name, precision, recall, f1, support in self.rows():
            lines.append(f"| {_bare(name)} | {precision:.3f} | {recall:.3f} | {f1:.3f} | {support:,} |")
        return "\n".join(lines)


def of_single(names: Sequence[str], labels: Numbers, said: Numbers) -> ClassTable:
    """Of one label an example: numbers [N] of those that are right and of those that were said."""
    confusion = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(confusion, (labels, said), 1)
    return _table(names, np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1), confusion)


def of_multiple(names: Sequence[str], labels: Numbers, said: Numbers) -> ClassTable:
    """Of any labels an example: booleans [N, L]."""
    return _table(names, (labels & said).sum(axis=0), said.sum(axis=0), labels.sum(axis=0), None)


def _table(
    names: Sequence[str], right: Numbers, said: Numbers, support: Numbers, confusion: Numbers | None
) -> ClassTable:
    precision, recall = right / np.maximum(said, 1), right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(said + support, 1)
    return ClassTable(tuple(names), precision, recall, f1, support, confusion)


def _bare(name: str) -> str:
    """A name that breaks no table."""
    return " ".join(name.split()).replace("|", "\\|")
