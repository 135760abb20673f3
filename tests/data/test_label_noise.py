import re
from collections import Counter

import numpy as np
import pytest
from data.made_facts import facts

from trainer.data import label_noise, stdlib
from trainer.data.example import Example, Piece
from trainer.data.images import Image
from trainer.data.label_noise import Suspect
from trainer.errors import RecipeError

LABELS = 4


def suspects(texts: list[str], labels: list[object]) -> list[Suspect]:
    return label_noise.suspects(facts(range(len(texts)), label=labels), texts, "label", 0.8)


def lines(found: list[Suspect]) -> set[int]:
    return {suspect.line for suspect in found}


@pytest.fixture(scope="module")
def documented() -> tuple[list[str], list[str]]:
    """What functions of four large modules of the standard library do, and which module each is of."""
    rows = [(re.search(r"`(\w+)", row["instruction"]), row["output"]) for row in stdlib.rows()]
    named = [(found[1], text) for found, text in rows if found]
    large = {module for module, _ in Counter(module for module, _ in named).most_common(LABELS)}
    return [text for module, text in named if module in large], [module for module, _ in named if module in large]


def test_labels_flipped_on_purpose_are_found(documented: tuple[list[str], list[str]]) -> None:
    texts, labels = documented
    names, random = sorted(set(labels)), np.random.default_rng(0)
    flipped = random.random(len(texts)) < 0.05
    others = [names[(names.index(label) + int(random.integers(1, LABELS))) % LABELS] for label in labels]
    given = [other if flip else label for label, other, flip in zip(labels, others, flipped, strict=True)]
    found = suspects(texts, list(given))
    hits = np.array([flipped[suspect.line - 1] for suspect in found])
    assert hits.mean() > 0.6 and hits.sum() / flipped.sum() > 0.4
    assert hits[:20].mean() > 0.8
    right = [suspect.suggested == labels[suspect.line - 1] for suspect, hit in zip(found, hits, strict=True) if hit]
    assert np.mean(right) > 0.9


def sentence(number: int) -> str:
    return " ".join(f"word{one}" for one in np.random.default_rng(number).integers(0, 10_000, 25))


def test_nearly_the_same_rows_with_other_labels_are_told_with_the_row() -> None:
    texts = [*map(sentence, range(20)), sentence(3) + " more", sentence(3) + "!"]
    labels: list[object] = ["a"] * 20 + ["b", "a"]
    [found] = suspects(texts, labels)
    assert (found.source, found.line, found.given, found.suggested) == ("a.jsonl", 21, "b", "a")
    assert found.probability == pytest.approx(2 / 3)
    assert found.why in [f'a.jsonl:{line} says nearly the same and is labelled "a"' for line in (4, 22)]
    assert found.to_json() == {**vars(found), "probability": 0.667}


def test_both_rows_are_told_where_neither_label_has_more_rows() -> None:
    found = suspects([sentence(1), sentence(2), sentence(1)], ["a", "a", None])
    assert found == []
    found = suspects([sentence(1), sentence(2), sentence(1)], [1, 1, 0])
    assert lines(found) == {1, 3} and {suspect.suggested for suspect in found} == {0, 1}


def test_a_label_of_few_rows_is_not_judged() -> None:
    texts = ["good fine great"] * 20 + ["bad poor awful"] * 20 + ["good fine great"]
    texts = [f"{text} {sentence(number)}" for number, text in enumerate(texts)]
    found = suspects(texts, ["yes"] * 19 + ["no"] * 21 + ["rare"])
    assert lines(found) == {20}
    assert found[0].why.startswith('a model of words gives "yes" 0.')


def test_the_order_of_rows_does_not_change_who_is_suspected(documented: tuple[list[str], list[str]]) -> None:
    texts, labels = (values[::4] for values in documented)
    rows = facts(range(len(texts)), label=labels)
    back = label_noise.suspects(rows.select(np.arange(len(texts))[::-1]), texts[::-1], "label", 0.8)
    there = label_noise.suspects(rows, texts, "label", 0.8)
    assert lines(there) == lines(back) and there


@pytest.mark.parametrize("text", ["", "..."])
def test_texts_without_words_contradict_nothing_but_each_other(text: str) -> None:
    assert lines(suspects([text] * 12, ["a"] * 7 + ["b"] * 5)) == set(range(8, 13))


def test_words_of_scripts_without_spaces_are_seen() -> None:
    texts = [f"这部电影很好看{number}" for number in range(8)] + [f"这部电影不行啊{number}" for number in range(8)]
    labels: list[object] = ["good"] * 7 + ["bad"] * 9
    assert 8 in lines(suspects(texts, labels))


def test_lists_of_labels_and_no_labels_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"data\.clean\.label_noise: takes a column with one label, and label holds"):
        suspects(["a", "b"], [["x"], ["y"]])
    with pytest.raises(RecipeError, match=r"data\.clean\.label_noise: no row has label; name a column"):
        suspects(["a", "b"], [None, None])
    with pytest.raises(RecipeError, match=r"no row has label"):
        label_noise.suspects(facts([1, 2]), ["a", "b"], "label", 0.8)


def test_a_label_is_held_against_what_is_asked_and_not_against_the_answer() -> None:
    pieces = (Piece("is it good?", False), Piece(" yes", True))
    assert label_noise.text_of(Example("a.jsonl", 1, pieces=pieces)) == "is it good?"
    assert label_noise.text_of(Example("a.jsonl", 1, pieces=(Piece("all of it", True),))) == "all of it"


def test_the_same_words_about_other_images_may_have_other_labels() -> None:
    rows = [
        Example("a.jsonl", 1, pieces=(Piece("what is it?", False),), images=(Image("a.png", content),))
        for content in (b"cat", b"dog", b"cat")
    ]
    texts = [label_noise.text_of(row) for row in rows]
    assert lines(suspects(texts[:2], ["cat", "dog"])) == set()
    assert lines(suspects(texts, ["cat", "dog", "dog"])) == {1, 3}
