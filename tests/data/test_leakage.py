from dataclasses import replace

import numpy as np
import pytest
from data.made_facts import facts

from trainer.data import duplicates, leakage
from trainer.data.example import Example, Piece
from trainer.data.facts import Facts
from trainer.data.images import Image
from trainer.data.leakage import leaks, prompt_digest
from trainer.errors import DataError

QUESTION = "How many eggs does Janet sell at the market each day?"


def example(prompt: str, answer: str = "nine") -> Example:
    return Example("a.jsonl", 1, pieces=(Piece(prompt, False), Piece(answer, True)))


def chat(*turns: tuple[str, str]) -> Example:
    return Example("a.jsonl", 1, messages=tuple({"role": role, "content": said} for role, said in turns))


def rows(*examples: Example, file: str = "a.jsonl") -> Facts:
    made = facts([one.digest() for one in examples], file)
    signatures = np.stack([duplicates.signature(one) for one in examples])
    prompts = np.array([prompt_digest(one) for one in examples], dtype=np.uint64)
    return Facts(**{**vars(made), "prompt": prompts, "signatures": signatures})


def test_the_same_row_and_the_same_question_leak() -> None:
    train = rows(example("something else entirely, it is"), example(QUESTION), example(QUESTION, "ten"))
    other = rows(example("what is this about, then?"), example(QUESTION), file="b.jsonl")
    found = leaks(train, {"validation": other}, 0.8)
    assert [(leak.row, leak.where, leak.other, leak.kind) for leak in found] == [
        (1, "a.jsonl:2", "b.jsonl:2", "same"),
        (2, "a.jsonl:3", "b.jsonl:2", "same prompt"),
    ]
    assert found[1].to_json() == {
        "where": "a.jsonl:3",
        "split": "validation",
        "other": "b.jsonl:2",
        "kind": "same prompt",
        "similarity": 1.0,
    }


def test_nearly_the_same_rows_leak_where_that_is_asked_for() -> None:
    answer = "Janet sells 16 - 3 - 4 = 9 duck eggs a day, and so she makes 9 * 2 = 18 dollars every day."
    train = rows(example(QUESTION, answer), example("x" * 30))
    other = rows(example(QUESTION.replace("How", "So how"), answer), file="b.jsonl")
    assert leaks(replace(train, signatures=None), {"test": other}, 0.8) == []
    [leak] = leaks(train, {"test": other}, 0.8)
    assert (leak.row, leak.kind) == (0, "nearly the same") and 0.8 <= leak.similarity < 1


def test_each_split_is_told_of_once_with_its_first_row() -> None:
    one = rows(example(QUESTION))
    other = rows(example(QUESTION), example(QUESTION), example(QUESTION, "ten"), file="b.jsonl")
    found = leaks(one, {"test": other, "data.clean.benchmarks.0": other}, 0.8)
    assert [(leak.split, leak.other, leak.kind) for leak in found] == [
        ("test", "b.jsonl:1", "same"),
        ("data.clean.benchmarks.0", "b.jsonl:1", "same"),
    ]


def test_rows_that_ask_nothing_share_no_question() -> None:
    texts = [Example("a.jsonl", 1, pieces=(Piece(text, True),)) for text in ("one text", "another text")]
    assert leaks(rows(texts[0]), {"test": rows(texts[1])}, 0.8) == []
    assert leaks(rows(example("Hello!")), {"test": rows(example("Hello!", "hi"))}, 0.8) == []
    assert leaks(rows(example(QUESTION)), {"test": rows(example(QUESTION)).select(np.array([], dtype=int))}, 0.8) == []


def test_a_question_is_known_in_any_format_and_dress() -> None:
    asked = prompt_digest(example(QUESTION))
    assert asked != 0
    assert prompt_digest(chat(("system", "be brief"), ("user", QUESTION.upper()), ("assistant", "9"))) == asked
    assert prompt_digest(example(f"  {QUESTION.replace(' ', chr(10))} ", "x")) == asked
    assert prompt_digest(Example("a", 1, words=tuple(QUESTION.split()), tags=("O",) * 10)) == asked
    assert prompt_digest(chat(("user", QUESTION), ("assistant", "9"), ("user", "why?"))) != asked
    assert prompt_digest(Example("a", 1, sequences=("one sentence of a pair", "the other"))) != 0


def test_the_same_question_of_another_image_is_another_question() -> None:
    one, other = (replace(example(QUESTION), images=(Image("a.png", content),)) for content in (b"one", b"other"))
    assert len({prompt_digest(row) for row in (one, other, example(QUESTION))}) == 3


def test_a_short_prompt_tells_nothing() -> None:
    assert prompt_digest(example("x" * (leakage.SHORTEST_PROMPT - 1))) == 0
    assert prompt_digest(example("x" * leakage.SHORTEST_PROMPT)) != 0


def test_leaks_are_refused_with_both_places_and_told_in_a_sentence() -> None:
    train = rows(example(QUESTION), example(QUESTION, "ten"), example("x" * 30))
    found = leaks(train, {"test": rows(example(QUESTION), file="b.jsonl")}, 0.99)
    with pytest.raises(DataError) as raised:
        leakage.refuse(found)
    assert [str(problem) for problem in raised.value.problems] == [
        "a.jsonl:1: says the same as b.jsonl:1 in test; leave one of them out, or set data.clean.leakage: drop",
        "a.jsonl:2: asks the same as b.jsonl:1 in test; leave one of them out, or set data.clean.leakage: drop",
    ]
    assert leakage.sentences(found) == [
        "2 training rows stand in test too (1 same, 1 same prompt), such as a.jsonl:1 = b.jsonl:1"
    ]
    assert leakage.sentences(found[:1]) == ["1 training row stands in test too (1 same), such as a.jsonl:1 = b.jsonl:1"]
    leakage.refuse([])
