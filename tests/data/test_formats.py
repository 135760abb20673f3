from typing import Any

import pytest

from trainer.config.data import Data, Source
from trainer.data.formats import Example, Piece, check_fields, parse
from trainer.data.sources import Row
from trainer.errors import Problem, RecipeError

USER = {"role": "user", "content": "Q"}
ASSISTANT = {"role": "assistant", "content": "A"}


def read(kind: str, values: dict[str, Any], fields: dict[str, str] | None = None, path: str = "a.jsonl") -> Any:
    source = Source.model_validate({"path": path, "format": kind, "fields": fields or {}})
    return parse(Row(path, 3, values), source, "data.train.1")


def test_a_completion_learns_its_completion() -> None:
    example = read("completion", {"prompt": "Q", "completion": "A", "more": 1})
    assert example.pieces == (Piece("Q", False), Piece("A", True))


def test_a_text_is_learned_whole() -> None:
    assert read("text", {"text": "T"}).pieces == (Piece("T", True),)


@pytest.mark.parametrize(
    ("more", "question"), [({}, "I"), ({"input": ""}, "I"), ({"input": None}, "I"), ({"input": "X"}, "I\n\nX")]
)
def test_an_instruction_is_a_question_and_an_answer(more: dict[str, Any], question: str) -> None:
    example = read("instruction", {"instruction": "I", "output": "O", **more})
    assert example.messages == ({"role": "user", "content": question}, {"role": "assistant", "content": "O"})


def test_fields_name_the_columns_of_the_file() -> None:
    example = read("instruction", {"question": "I", "answer": "O"}, {"instruction": "question", "output": "answer"})
    assert [message["content"] for message in example.messages] == ["I", "O"]


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        ("text", {"txt": "x"}, "has no text; it has txt; did you mean txt?"),
        ("text", {"txt": "x"}, "data.train.1.fields: {text: <column>}"),
        ("text", {}, "it has no column"),
        ("text", {"text": None}, "text is null"),
        ("text", {"text": 3}, "text is the number 3"),
        ("text", {"text": ["x"]}, "text is a list"),
        ("text", {"text": "x\ud83d"}, "\\ud83d, half of a character pair"),
        ("completion", {"prompt": "x"}, "has no completion"),
        ("instruction", {"instruction": "x", "output": "y", "input": 3}, "input is the number 3"),
        ("chat", {"messages": "x"}, "messages is text, not a list"),
        ("chat", {"messages": []}, "messages is an empty list"),
        ("chat", {"messages": ["x"]}, "messages.0 is text, not an object"),
        ("chat", {"messages": [USER, {"from": "gpt", "value": "x"}]}, "messages.1 has no role; it has from, value"),
        (
            "chat",
            {"messages": [USER, {"role": "bot", "content": "x"}]},
            "messages.1.role is 'bot', which is none of assistant",
        ),
        ("chat", {"messages": [USER, {"role": "assistant", "content": None}]}, "messages.1.content is null"),
        ("chat", {"messages": [USER]}, "holds no message of the assistant"),
    ],
)
def test_a_row_that_does_not_fit_its_format_says_why(kind: str, values: dict[str, Any], said: str) -> None:
    problem = read(kind, values)
    assert isinstance(problem, Problem)
    assert problem.where == "a.jsonl:3"
    assert said in problem.message


def test_a_csv_without_the_column_may_lack_its_header_or_its_commas() -> None:
    problem = read("completion", {"prompt;completion": "x;y"}, path="a.csv")
    assert "the first line of a CSV file names its columns; values are separated by commas" in problem.message


def test_a_field_that_is_mapped_to_no_column_points_at_the_mapping() -> None:
    assert "mend data.train.1.fields.text" in read("text", {"body": "x"}, {"text": "bodi"}).message


def test_an_unknown_field_is_an_error_of_the_recipe() -> None:
    source = {"path": "a.jsonl", "format": "completion", "fields": {"promt": "q"}}
    with pytest.raises(RecipeError, match=r"data\.train\.0\.fields: promt is not .*did you mean prompt\?"):
        check_fields(Data.model_validate({"train": [source]}))


def test_a_digest_knows_the_seed_and_the_words_and_not_the_place() -> None:
    one, other = Example("a", 1, pieces=(Piece("x", True),)), Example("b", 9, pieces=(Piece("x", True),))
    assert one.digest(0) == other.digest(0) != one.digest(1)
    assert one.digest(0) != Example("a", 1, pieces=(Piece("y", True),)).digest(0)
