from typing import Any

import numpy as np
import pytest

from trainer.config.classify import Classify
from trainer.data.facts import Column, Facts
from trainer.data.targets import label_names, targets, wrong_label
from trainer.errors import DataError, RecipeError


def column(values: list[Any]) -> Column:
    distinct = [value for place, value in enumerate(values) if value not in values[:place]]
    return Column(np.array([distinct.index(value) for value in values]), tuple(distinct))


def facts(values: list[Any]) -> Facts:
    count = len(values)
    zeros = np.zeros(count, dtype=np.int64)
    return Facts(
        source=zeros,
        file=zeros,
        files=("rows.jsonl",),
        line=np.arange(1, count + 1),
        length=zeros,
        digest=zeros,
        prompt=zeros,
        columns={"label": column(values)},
    )


def task(**settings: Any) -> Classify:
    return Classify(kind="classify", **settings)


def made(settings: Classify, values: list[Any]) -> tuple[tuple[str, ...], list[Any]]:
    names = label_names(settings, column(values))
    return names, targets(settings, names, facts(values)).tolist()


def test_labels_are_numbered_in_their_order() -> None:
    assert made(task(), ["b", "a", "b"]) == (("a", "b"), [1, 0, 1])
    assert made(task(), [10, 9, 10]) == (("9", "10"), [1, 0, 1])
    assert made(task(), [True, False]) == (("false", "true"), [1, 0])
    assert made(task(labels=("b", "a", "c")), ["b", "a", "b"]) == (("b", "a", "c"), [0, 1, 0])


def test_several_labels_are_zeros_and_ones() -> None:
    settings = task(problem="multiple")
    assert made(settings, [["x", "y"], [], "y"]) == (("x", "y"), [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])


def test_ordinal_labels_need_their_order() -> None:
    assert made(task(problem="ordinal"), [10, 9, 10]) == (("9", "10"), [1, 0, 1])
    assert made(task(problem="ordinal", labels=("low", "high")), ["high", "low"]) == (("low", "high"), [1, 0])
    with pytest.raises(RecipeError, match="needed, from the lowest to the highest, since a, b are no"):
        made(task(problem="ordinal"), ["b", "a"])


def test_numbers_are_taken_as_they_are_also_from_csv() -> None:
    assert made(task(problem="regression"), [1, 0.5, "-2.5"]) == (("",), [1.0, 0.5, -2.5])


@pytest.mark.parametrize(
    ("settings", "row", "message"),
    [
        (task(), {"label": ["a"]}, "label is a list; set task.problem: multiple"),
        (task(), {"label": None}, "label is null, which task.label names; the row has label"),
        (task(label="kind"), {"text": "a"}, "kind is missing, which task.label names; the row has text"),
        (
            task(labels=("plain", "odd")),
            {"label": "plan"},
            "label is plan, which is no label of task.labels; did you mean plain?",
        ),
        (
            task(problem="multiple", labels=("plain", "odd")),
            {"label": ["odd", "even"]},
            "label is even, which is no label of task.labels; known: odd, plain",
        ),
        (task(problem="regression"), {"label": "high"}, "label is high, which is no number, as task.problem:"),
        (task(problem="regression"), {"label": True}, "label is true, which is no number, as task.problem:"),
        (task(problem="regression"), {"label": "nan"}, "label is nan, which is no number, as task.problem:"),
        (task(problem="regression"), {"label": [1]}, "label is [1], which is no number, as task.problem:"),
    ],
)
def test_what_is_wrong_with_a_label_is_told(settings: Classify, row: dict[str, Any], message: str) -> None:
    said = wrong_label(settings, row)
    assert said is not None
    assert said.startswith(message)


def test_a_label_that_fits_has_nothing_wrong() -> None:
    assert wrong_label(task(), {"label": "a"}) is None
    assert wrong_label(task(problem="multiple", labels=("a", "b")), {"label": []}) is None
    assert wrong_label(task(problem="regression"), {"label": "-1e3"}) is None


def test_a_label_that_no_training_row_has_is_named() -> None:
    with pytest.raises(DataError) as caught:
        targets(task(), ("plain", "odd"), facts(["odd", "old"]))
    said = "rows.jsonl:2: label is old, which is no label of the training rows; did you mean odd?"
    assert said in str(caught.value)


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(DataError, match="all rows hold the one label a in the column label"):
        label_names(task(), column(["a", "a"]))
