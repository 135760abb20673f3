"""Sentences with entities and relations, as rows hold them."""

from typing import Any

import pytest

from trainer.config.data import Source
from trainer.data.example import Example
from trainer.data.formats import parse
from trainer.data.row import Row
from trainer.errors import Problem

WORDS = ["Ada", "Lovelace", "works", "in", "London", "."]
ENTITIES = [{"type": "person", "start": 0, "end": 2}, {"type": "place", "start": 4, "end": 5}]
RELATIONS = [{"type": "works in", "head": 0, "tail": 1}]


def read(answered: bool = True, fields: dict[str, str] | None = None, **values: Any) -> Example | Problem:
    row = {"words": WORDS, "entities": ENTITIES, "relations": RELATIONS, **values}
    source = Source(path="a.jsonl", format="entities", fields=fields or {})
    return parse(Row("a.jsonl", 2, row), source, answered=answered)


def test_entities_become_tags_with_their_number() -> None:
    found = read()
    assert isinstance(found, Example)
    assert found.words == tuple(WORDS)
    assert found.tags == ("B-person 0", "I-person 0", "O", "O", "B-place 1", "O")
    assert found.columns["relations"] == [(0, 1, "works in")]


def test_a_row_that_is_asked_needs_words_alone() -> None:
    found = parse(Row("a.jsonl", 2, {"words": WORDS}), Source(path="a", format="entities"), answered=False)
    assert isinstance(found, Example)
    assert found.tags == ()


def test_columns_of_other_names_and_json_in_text_are_read() -> None:
    found = read(
        fields={"words": "tokens"}, tokens=WORDS, entities='[{"type": "x", "start": 1, "end": 2}]', relations="[]"
    )
    assert isinstance(found, Example)
    assert found.tags == ("O", "B-x 0", "O", "O", "O", "O")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"words": []}, "words is an empty list"),
        ({"entities": None}, "entities is null, not a list of entities"),
        ({"entities": [[0, 1]]}, "entities.0 is a list, not an object with type, start, end"),
        ({"entities": [{"type": "x", "start": 0}]}, "entities.0 has no end; it needs type, start, end"),
        ({"entities": [{"type": "x", "start": 0, "end": 1.0}]}, "entities.0.end is the number 1.0, not a whole number"),
        ({"entities": [{"type": "x", "start": 0, "end": True}]}, "entities.0.end is true or false"),
        ({"entities": [{"type": 3, "start": 0, "end": 1}]}, "entities.0.type is the number 3"),
        ({"entities": [{"type": "x", "start": 2, "end": 2}]}, "entities.0 [2, 2] holds no word"),
        ({"entities": [{"type": "x", "start": 4, "end": 9}]}, "entities.0 [4, 9] is outside the sentence, which has 6"),
        (
            {"entities": [*ENTITIES, {"type": "x", "start": 1, "end": 3}]},
            "entities.2 shares a word with entity 0; a word belongs to one entity at most",
        ),
        ({"relations": [{"type": "in", "head": 0, "tail": 2}]}, "relations.0.tail is 2, and the row has 2 entities"),
        ({"relations": [{"type": "in", "head": 1, "tail": 1}]}, "relations.0 relates entity 1 to itself"),
    ],
)
def test_a_row_that_does_not_fit_is_told(values: dict[str, Any], message: str) -> None:
    found = read(**values)
    assert isinstance(found, Problem)
    assert message in found.message
