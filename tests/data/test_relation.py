from typing import Any

import pytest

from trainer.config.data import Source
from trainer.data.example import Example
from trainer.data.formats import parse
from trainer.data.row import BadRow, Row

TEXT = "Ada was born in London."


def read(values: dict[str, Any]) -> str:
    found = parse(Row("a.jsonl", 2, values), Source(path="a.jsonl", format="relation"), answered=False)
    if isinstance(found, Example):
        return found.pieces[0].text
    assert isinstance(found, BadRow)
    return str(found)


def test_both_entities_stand_between_marks() -> None:
    assert read({"text": TEXT, "head": [0, 3], "tail": [16, 22]}) == "[E1]Ada[/E1] was born in [E2]London[/E2]."
    assert read({"text": TEXT, "head": [16, 22], "tail": [0, 3]}) == "[E2]Ada[/E2] was born in [E1]London[/E1]."
    assert read({"text": TEXT, "head": "[0, 3]", "tail": [16, 22]}).startswith("[E1]Ada[/E1]")


@pytest.mark.parametrize(("head", "tail"), [([0, 2], [2, 4]), ([2, 4], [0, 2])])
def test_one_may_follow_the_other_at_once(head: list[int], tail: list[int]) -> None:
    first, second = ("E1", "E2") if head[0] == 0 else ("E2", "E1")
    assert read({"text": "abcd", "head": head, "tail": tail}) == f"[{first}]ab[/{first}][{second}]cd[/{second}]"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"head": [0, 99]}, "a.jsonl:2: head [0, 99] is outside the text, which has 23 characters; "),
        ({"tail": [5, 5]}, "a.jsonl:2: tail [5, 5] names no character; "),
        ({"tail": [2, 9]}, "a.jsonl:2: head [0, 3] and tail overlap; each needs characters of its own"),
        ({"head": 3}, "a.jsonl:2: head is the number 3, not [start, end] of its characters in the text"),
        ({"text": "[E1] there"}, "a.jsonl:2: text holds [E1], which marks an entity; take it out of the text"),
    ],
)
def test_what_is_wrong_with_an_entity_is_told(values: dict[str, Any], message: str) -> None:
    assert read({"text": TEXT, "head": [0, 3], "tail": [16, 22], **values}).startswith(message)
