from typing import Any

import pytest

from trainer.config.classify import Classify
from trainer.config.data import Source
from trainer.config.seq2seq import Seq2Seq
from trainer.config.token_labels import TokenLabels
from trainer.data.example import Example
from trainer.data.reading import read_for
from trainer.data.row import BadRow, Row

PAIRS = Source(path="a.jsonl", format="completion", fields={"prompt": "en", "completion": "fr"})


def read(task: Any, source: Source, values: dict[str, Any], answered: bool = True) -> Example | str:
    found = read_for(task, Row("a.jsonl", 3, values), source, "data.train.0", answered=answered)
    if isinstance(found, Example):
        return found
    assert isinstance(found, BadRow)
    return str(found)


def test_a_source_and_its_target_are_read_apart() -> None:
    task = Seq2Seq(kind="seq2seq", prefix="say: ")
    found = read(task, PAIRS, {"en": "two", "fr": "deux"})
    assert isinstance(found, Example)
    assert (found.parts, found.pieces) == ((("say: two",), ("deux",)), ())
    assert read(task, PAIRS, {"en": "two", "fr": " "}) == (
        "a.jsonl:3: fr is empty, so there is nothing to learn; leave the row out or give it text"
    )


@pytest.mark.parametrize(
    ("settings", "values", "message"),
    [
        ({}, {"words": ["a"]}, "has no ner; it has words"),
        ({}, {"words": ["a"], "ner": ["x"]}, "ner.0 is x (the word a), which is neither O nor B-x or I-x"),
        (
            {},
            {"words": ["a", "b"], "ner": ["B-x", "I-y"]},
            "ner.1 is I-y (the word b), which follows B-x, so no",
        ),
        ({"labels": ("O", "B-x")}, {"words": ["a"], "ner": ["B-y"]}, "ner.0 is B-y (the word a), which is no label of"),
        ({"scheme": "none"}, {"words": ["a"], "ner": ["x", "y"]}, "ner holds 2 tags for 1 words"),
    ],
)
def test_wrong_tags_are_named(settings: dict[str, Any], values: dict[str, Any], message: str) -> None:
    source = Source(path="a.jsonl", format="words", fields={"tags": "ner"})
    found = read(TokenLabels(kind="token_labels", **settings), source, values)
    assert isinstance(found, str)
    assert found.startswith(f"a.jsonl:3: {message}")


def test_right_tags_are_read() -> None:
    source, values = Source(path="a.jsonl", format="words"), {"words": ["a", "b"], "tags": ["B-x", "I-x"]}
    task = TokenLabels(kind="token_labels")
    found = read(task, source, values)
    assert isinstance(found, Example)
    assert (found.words, found.tags) == (("a", "b"), ("B-x", "I-x"))
    asked = read(task, source, {"words": ["a"]}, answered=False)
    assert isinstance(asked, Example)
    assert asked.tags == ()


@pytest.mark.parametrize(
    ("task", "source", "values"),
    [
        (Seq2Seq(kind="seq2seq"), PAIRS, {"en": "two"}),
        (Classify(kind="classify"), Source(path="a.jsonl", format="text"), {"text": "two"}),
    ],
)
def test_who_is_asked_needs_no_answer(task: Any, source: Source, values: dict[str, Any]) -> None:
    assert isinstance(read(task, source, values, answered=False), Example)
    assert isinstance(read(task, source, values), str)
