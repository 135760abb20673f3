from typing import Any

import pytest

from trainer.config.data import Data, Source
from trainer.data.formats import Example, Piece, check_fields, parse
from trainer.data.row import Row
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
        (
            "chat",
            {"messages": [USER, {"speaker": "gpt", "value": "x"}]},
            "messages.1 has no role; it has speaker, value",
        ),
        ("chat", {"messages": [USER, {"role": "assistant"}]}, "messages.1 has no content; it has role"),
        ("chat", {"messages": [USER], "conversations": [USER]}, "has both messages and conversations; say which one"),
        (
            "chat",
            {"messages": [{**USER, "from": "human"}, ASSISTANT]},
            "messages.0 has both role and from; say which one counts: data.train.1.fields: {role: role}",
        ),
        (
            "chat",
            {"messages": [USER, {"role": "assistant", "content": [{"type": "image", "path": "a.png"}]}]},
            "messages.1.content.0 is of type 'image'; chat takes parts {type: text, text}, image_text takes images",
        ),
        (
            "chat",
            {"messages": [{**USER, "tool_calls": [{}]}, ASSISTANT]},
            "messages.0 has tool_calls, and its role is user",
        ),
        ("chat", {"messages": [USER, {**ASSISTANT, "tool_calls": "f"}]}, "messages.1.tool_calls is text, not a list"),
        ("chat", {"messages": [USER, {**ASSISTANT, "tool_calls": [{}]}]}, "messages.1.tool_calls.0 names no function"),
        (
            "chat",
            {"messages": [USER, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{"}]}]},
            "messages.1.tool_calls.0.arguments is text that is not JSON",
        ),
        (
            "chat",
            {"messages": [USER, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": [1]}]}]},
            "messages.1.tool_calls.0.arguments is a list, not an object",
        ),
        (
            "chat",
            {"messages": [USER, {"role": "assistant", "tool_calls": [{"name": "f\ud83d"}]}]},
            "messages.1.tool_calls holds \\ud83d, half of a character pair",
        ),
        ("chat", {"messages": [USER, ASSISTANT], "tools": "f"}, "tools is text that is not JSON; it has to be a list"),
        ("chat", {"messages": [USER, ASSISTANT], "tools": ["f"]}, "tools is a list, not a list of objects"),
        (
            "chat",
            {"messages": [USER, ASSISTANT], "tools": [{"a": b"x"}]},
            "tools holds a value that JSON does not have",
        ),
        ("pair", {"texts": ["a"], "label": "x"}, "texts is a list of 1, not a list of two or more texts"),
        ("pair", {"texts": "a", "label": "x"}, "texts is text, not a list of two or more texts"),
        ("pair", {"text_a": "a", "label": "x"}, "has no text_b; it has text_a, label; did you mean text_a?"),
        ("pair", {"a": "a"}, "has neither texts nor text_a and text_b; it has a; where the column has another name"),
        ("pair", {"texts": ["a", "b"], "text_a": "a"}, "has both texts and text_a and text_b; say which one counts"),
        ("pair", {"texts": ["a", "b"]}, "has no label"),
        ("pair", {"texts": ["a", "b"], "label": None}, "label is null"),
        ("table", {"table": [], "answer": "x"}, "table is empty; it has to be a list of objects, a list of lists"),
        ("table", {"table": 3, "answer": "x"}, "table is the number 3; it has to be"),
        ("table", {"table": "a,b", "answer": "x"}, "table is text that is not JSON; it has to be a list of objects"),
        ("table", {"table": [["a"]], "answer": "x"}, "table holds no row; it needs at least one"),
        ("table", {"table": [{}], "answer": "x"}, "table holds no column; it needs at least one"),
        (
            "table",
            {"table": [["a"], [1, 2]], "answer": "x"},
            "table, row 1, has 2 cells, and the header names 1 columns",
        ),
        ("table", {"table": [["a"], [[1]]], "answer": "x"}, "table, row 1, is a list; it has to be text"),
        (
            "table",
            {"table": {"header": ["a"], "rows": ["x"]}, "answer": "x"},
            "table, row 1, is text, not a list of cells",
        ),
        ("table", {"table": [["a"], [1]]}, "has no answer"),
        ("triples", {"triples": [], "answer": "x"}, "triples is an empty list; it needs at least one triple"),
        ("triples", {"triples": "a", "answer": "x"}, "triples is text that is not JSON"),
        ("triples", {"triples": {"a": 1}, "answer": "x"}, "triples is an object, not a list of [head, relation, tail]"),
        ("triples", {"triples": [["a", "b"]], "answer": "x"}, "triples.0 is not [head, relation, tail]"),
        ("triples", {"triples": [["a", "b", None]], "answer": "x"}, "triples.0.tail is null"),
        ("triples", {"head": "a", "relation": "b", "answer": "x"}, "has no tail"),
        ("triples", {"triples": [["a", "b", "c"]], "names": ["a"], "answer": "x"}, "names is a list, not an object"),
        ("triples", {"triples": [["a", "b", "c"]], "names": {"a": 1}, "answer": "x"}, "names.a is the number 1"),
        ("triples", {"triples": [["a", "b", "c"]]}, "has no answer"),
        ("words", {"words": []}, "words is an empty list; it needs at least one word"),
        ("words", {"words": "a b"}, "words is text, not a list of words"),
        ("words", {"words": ["a", None]}, "words.1 is null"),
        ("words", {"words": ["a", "b"], "tags": ["X"]}, "tags holds 1 tags for 2 words; each word needs one"),
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


def test_a_digest_knows_the_words_and_not_the_place() -> None:
    one, other = Example("a", 1, pieces=(Piece("x", True),)), Example("b", 9, pieces=(Piece("x", True),))
    assert one.digest() == other.digest() != Example("a", 1, pieces=(Piece("y", True),)).digest()


def test_the_usual_conventions_of_a_conversation_say_the_same() -> None:
    parts = [{"type": "text", "text": "Q"}]
    for values in (
        {"messages": [USER, ASSISTANT]},
        {"conversations": [USER, ASSISTANT], "messages": None},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
        {"messages": [{"from": "user", "value": "Q", "role": None}, {"from": "assistant", "value": "A"}]},
        {"messages": [{"role": "user", "content": parts}, {"role": "model", "content": "A", "tool_calls": None}]},
        {"messages": [USER, ASSISTANT], "tools": None},
    ):
        assert read("chat", values).messages == (USER, ASSISTANT)


def test_fields_name_the_convention_where_there_are_several() -> None:
    mixed = [{**USER, "from": "gpt"}, {**ASSISTANT, "from": "human"}]
    values = {"messages": [USER], "conversations": mixed, "tools": "[]"}
    fields = {"messages": "conversations", "role": "role", "content": "content"}
    assert read("chat", values, fields).messages == (USER, ASSISTANT)


def test_a_call_has_one_form_whichever_way_it_is_written() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    expected = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "content": "7", "tool_call_id": "x"}
    for written in (
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "assistant", "tool_calls": [{"name": "f", "arguments": '{"a": 1}'}]},
        {"from": "gpt", "value": None, "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}, "id": None}]},
    ):
        tools = [{"name": "f"}]
        example = read("chat", {"messages": [USER, written, result, ASSISTANT], "tools": tools})
        assert example.messages == (USER, expected, result, ASSISTANT) and example.tools == ({"name": "f"},)
        assert read("chat", {"messages": [USER, written], "tools": '[{"name": "f"}]'}).tools == ({"name": "f"},)
        assert '"arguments": {"a": 1}' in "".join(example.texts())


def test_thoughts_have_one_name() -> None:
    for name in ("reasoning_content", "thinking", "reasoning"):
        example = read("chat", {"messages": [USER, {**ASSISTANT, name: "T"}]})
        assert example.messages[1] == {**ASSISTANT, "reasoning_content": "T"}
        assert "T" in example.texts()


def test_rows_whose_answers_are_absent_say_the_rest() -> None:
    rows: dict[str, dict[str, Any]] = {
        "completion": {"prompt": "Q"},
        "instruction": {"instruction": "Q"},
        "chat": {"messages": [USER]},
        "pair": {"texts": ["Q", "R"]},
        "table": {"table": [["a"], [1]], "question": "Q"},
        "triples": {"head": "a", "relation": "b", "tail": "c", "question": "Q"},
    }
    for kind, values in rows.items():
        source = Source.model_validate({"path": "a.jsonl", "format": kind})
        assert isinstance(parse(Row("a.jsonl", 1, values), source), Problem)
        example = parse(Row("a.jsonl", 1, values), source, answered=False)
        assert isinstance(example, Example) and not any(piece.learned for piece in example.pieces)
        assert "Q" in "".join(example.texts())


def test_a_pair_names_its_texts_in_a_list_or_in_columns() -> None:
    expected = (("P", "H"), (Piece("\n", False), Piece("1", True)))
    for values in ({"texts": ["P", "H"], "label": 1}, {"text_a": "P", "text_b": "H", "label": "1"}):
        example = read("pair", values)
        assert (example.sequences, example.pieces) == expected
    mapped = read("pair", {"texts": 3, "p": "P", "h": "H", "y": 1}, {"text_a": "p", "text_b": "h", "label": "y"})
    assert (mapped.sequences, mapped.pieces) == expected


TABLES = (
    [{"city": "Bern", "people": 134000}, {"people": None, "city": "A|B\nC"}],
    [["city", "people"], ["Bern", 134000], ["A|B\nC", None]],
    {"header": ["city", "people"], "rows": [["Bern", 134000], ["A|B\nC", ""]]},
    '[["city", "people"], ["Bern", 134000], ["A|B\\nC", null]]',
)
STYLES = {
    "markdown": ("T\n\n| city | people |\n| --- | --- |\n", ["| Bern | 134000 |\n", "| A\\|B C |  |\n"]),
    "rows": ("T\n\n", ["row 1: city is Bern; people is 134000\n", "row 2: city is A|B C; people is \n"]),
    "key_value": ("T\n\n", ["city: Bern\npeople: 134000\n", "\ncity: A|B C\npeople: \n"]),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_written_in_its_style_whichever_way_it_is_given(table: Any, style: str) -> None:
    source = Source.model_validate({"path": "a.jsonl", "format": "table", "table": style})
    values = {"table": table, "caption": "T", "question": "Who?", "answer": "me"}
    example = parse(Row("a.jsonl", 1, values), source)
    assert isinstance(example, Example) and example.listing is not None
    assert (example.listing.head(), example.listing.lines()) == STYLES[style]
    assert example.pieces == (Piece("\nWho?\n", False), Piece("me", True))


def test_a_table_needs_no_caption_and_no_question() -> None:
    example = read("table", {"table": [["a"], [1]], "answer": True})
    assert example.listing.head() == "| a |\n| --- |\n"
    assert example.pieces == (Piece("\n", False), Piece("true", True))


GRAPH = [["C", "of", "D"], ["A", "in", "B"], ["E", "by", "A"], ["B", "in", "C"], ["X", "is", "Y"]]


def lines(values: dict[str, Any], **source: Any) -> list[str]:
    wanted = Source.model_validate({"path": "a.jsonl", "format": "triples", **source})
    example = parse(Row("a.jsonl", 1, {"answer": "x", **values}), wanted, "data.train.0")
    assert isinstance(example, Example), example
    assert example.listing is not None and example.listing.head() == ""
    return list(example.listing.lines())


def test_triples_are_written_one_on_a_line() -> None:
    expected = ["C | of | D\n", "A | in | B\n"]
    assert lines({"triples": GRAPH[:2]}) == expected
    objects = [dict(zip(("head", "relation", "tail"), triple, strict=True)) for triple in GRAPH[:2]]
    assert lines({"triples": objects}) == expected
    assert lines({"head": "A", "relation": "in", "tail": 3}) == ["A | in | 3\n"]


def test_names_stand_for_entities_and_a_description_stands_where_its_entity_is_first_named() -> None:
    values = {
        "triples": [["Q1", "P2", "Q3"], ["Q3", "P2", "Q1"]],
        "names": {"Q1": "Bern", "P2": "in", "Q9": "unused"},
        "descriptions": {"Q1": "a\ncity", "Q3": None},
    }
    assert lines(values) == ["Bern (a city) | in | Q3\n", "Q3 | in | Bern\n"]


@pytest.mark.parametrize(
    ("hops", "expected"),
    [
        (1, ["A | in | B\n", "E | by | A\n"]),
        (2, ["A | in | B\n", "E | by | A\n", "B | in | C\n"]),
        (9, ["A | in | B\n", "E | by | A\n", "B | in | C\n", "C | of | D\n"]),
    ],
)
def test_around_an_entity_the_nearest_triples_come_first(hops: int, expected: list[str]) -> None:
    assert lines({"triples": GRAPH, "who": "A"}, entity="who", hops=hops) == expected


def test_an_entity_that_is_absent_is_an_error_of_the_row() -> None:
    source = Source.model_validate({"path": "a.jsonl", "format": "triples", "entity": "who"})
    for values, said in (
        ({"who": "Z"}, "the entity 'Z' stands in none of the triples"),
        ({}, "has no who; it has triples, answer; mend data.train.0.entity"),
    ):
        problem = parse(Row("a.jsonl", 1, {"triples": GRAPH, "answer": "x", **values}), source)
        assert isinstance(problem, Problem) and said in problem.message


def test_words_may_have_tags() -> None:
    example = read("words", {"words": ["New", "York"], "tags": ["B", 3]})
    assert (example.words, example.tags) == (("New", "York"), ("B", "3"))
    assert read("words", {"words": ["a", 2]}).tags == ()


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("completion", {"prompt": "a \n", "completion": " b"}, ["[a] \n", " [b]"]),
        ("text", {"text": " a "}, ["[ a ]"]),
        ("pair", {"texts": ["a ", "b"], "label": "y"}, ["[a ]", "[b]", "[]\n", "[y]"]),
        ("table", {"table": [["c"], ["d"]], "caption": "e", "answer": "y"}, ["[e]", "[c]", "[d]", "[]\n", "[y]"]),
        ("triples", {"head": "a", "relation": "b", "tail": "c", "answer": "y"}, ["[a]", "[b]", "[c]", "[]\n", "[y]"]),
        ("words", {"words": ["a", "b"], "tags": ["X", "Y"]}, ["[a]", "[b]"]),
        ("chat", {"messages": [USER, ASSISTANT]}, ["user\n", "[Q]", "assistant\n", "[A]"]),
    ],
)
def test_a_change_of_text_reaches_what_the_user_wrote_and_leaves_the_seams(
    kind: str, values: dict[str, Any], expected: list[str]
) -> None:
    changed = read(kind, values).with_text(lambda text: f"[{text}]")
    assert [text.replace("\n[]", "[]\n") for text in changed.texts()] == expected
    assert read(kind, values).with_text(str).digest() == read(kind, values).digest() != changed.digest()


def test_tags_and_tools_belong_to_what_a_row_says() -> None:
    one, other = (read("words", {"words": ["a"], "tags": [tag]}) for tag in "XY")
    assert one.digest() != other.digest()
    bare, tooled = (read("chat", {"messages": [USER, ASSISTANT], "tools": tools}) for tools in ([], [{"name": "f"}]))
    assert bare.digest() != tooled.digest()


def test_the_row_stands_beside_what_it_says() -> None:
    assert read("text", {"text": "a", "label": 3}).columns == {"text": "a", "label": 3}
