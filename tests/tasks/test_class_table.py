import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from trainer.tasks.class_table import ClassTable, of_multiple, of_single

NAMES = ("a", "b", "c", "never")


def agrees(table: ClassTable, labels: object, said: object) -> None:
    expected = precision_recall_fscore_support(labels, said, labels=range(len(NAMES)), zero_division=0.0)
    for own, theirs in zip((table.precision, table.recall, table.f1, table.support), expected, strict=True):
        assert own.tolist() == pytest.approx(theirs.tolist())


def test_single_labels_are_told_as_scikit_learn_tells_them() -> None:
    generator = np.random.default_rng(0)
    labels, said = generator.integers(0, 3, (2, 200))
    table = of_single(NAMES, labels, said)
    agrees(table, labels, said)
    assert table.confusion is not None
    assert table.confusion.tolist() == confusion_matrix(labels, said, labels=range(len(NAMES))).tolist()


def test_several_labels_are_told_as_scikit_learn_tells_them() -> None:
    labels, said = np.random.default_rng(1).random((2, 100, len(NAMES))) < [0.5, 0.3, 0.1, 0.0]
    table = of_multiple(NAMES, labels, said)
    agrees(table, labels, said)
    assert table.confusion is None


def test_a_name_breaks_no_table() -> None:
    table = of_single(("a|b\nc", "d"), np.array([0, 1]), np.array([0, 0]))
    assert table.markdown().splitlines()[2:] == [
        "| a\\|b c | 0.500 | 1.000 | 0.667 | 1 |",
        "| d | 0.000 | 0.000 | 0.000 | 1 |",
    ]
