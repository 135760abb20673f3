import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config.data import Source
from trainer.data import encodings, text_files
from trainer.data.row import BadRow, Row
from trainer.data.sources import read
from trainer.errors import Problem


def write(path: Path, content: str | bytes) -> Source:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Source(path=str(path), format="text")


def rows_of(source: Source) -> list[Row]:
    found = list(read(source))
    assert all(isinstance(row, Row) for row in found), found
    return [row for row in found if isinstance(row, Row)]


def only_problem(source: Source) -> Problem:
    [found] = [item for item in read(source) if isinstance(item, Problem)]
    return found


def test_jsonl_rows_know_their_lines_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", '{"text": "one"}\n\n{"text": "two\u2028"}\r\n{"text": "three"}')
    rows = rows_of(source)
    assert [(row.line, row.values["text"]) for row in rows] == [(1, "one"), (3, "two\u2028"), (4, "three")]
    assert rows[1].where == f"{source.path}:3"


def test_a_csv_row_stands_where_its_first_line_is(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", '\ufefftext,b\n"two\nlines",1\n\nthree,2\n')
    assert [(row.line, dict(row.values)) for row in rows_of(source)] == [
        (2, {"text": "two\nlines", "b": "1"}),
        (5, {"text": "three", "b": "2"}),
    ]


def test_values_of_a_tsv_file_are_separated_by_tabs(tmp_path: Path) -> None:
    source = write(tmp_path / "a.tsv", 'text\tb\none, two\t1\n"a ""tab""\t"\t2\n')
    assert [dict(row.values) for row in rows_of(source)] == [
        {"text": "one, two", "b": "1"},
        {"text": 'a "tab"\t', "b": "2"},
    ]


def test_a_file_of_text_is_one_row(tmp_path: Path) -> None:
    [row] = rows_of(write(tmp_path / "a.txt", "\ufefftwo\r\nlines\n"))
    assert (row.source, row.line, dict(row.values)) == (f"{tmp_path}/a.txt", 1, {"text": "two\r\nlines\n"})


TEXT = st.text(st.characters(codec="utf-8"))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(TEXT, TEXT), min_size=1))
def test_what_json_wrote_is_read_again(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]) -> None:
    source = write(
        tmp_path_factory.mktemp("a") / "a.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    )
    assert [row.values for row in rows_of(source)] == rows


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": ', "is not JSON: Expecting value at column"),
        ('{"text": "a\tb', "is not JSON: Invalid control character at column 12"),
        ("[", "one object on each line"),
        ("[1, 2]", "is a list, not a JSON object"),
        ("3", "is a number, not a JSON object"),
        ("null", "is null, not a JSON object"),
        ("[" * 100_000, "nested too deep"),
        ('{"text": ' + "1" * 5000 + "}", "is not JSON that can be read"),
    ],
)
def test_a_row_that_is_no_object_is_named_with_its_line_and_the_next_is_read(
    tmp_path: Path, line: str, said: str
) -> None:
    first, problem, last = read(write(tmp_path / "a.jsonl", f'{{"text": "x"}}\n{line}\n{{"text": "y"}}\n'))
    assert isinstance(problem, BadRow) and isinstance(first, Row) and isinstance(last, Row)
    assert (problem.where, problem.source, problem.line) == (f"{tmp_path}/a.jsonl:2", f"{tmp_path}/a.jsonl", 2)
    assert said in problem.message and last.line == 3


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ("a,,c\n1,2,3\n", ":1", "without a name; the first line of a CSV file is its header"),
        ("a,a\n1,2\n", ":1", "names the column 'a' twice"),
        ("\n\n", ":1", "is its header"),
        ("a,b\n", "", "holds a header and no row"),
        ('a,b\n"1"x,2\n', ":2", "is not CSV"),
        ('a,b\n1,"2\n', ":2", "is not CSV"),
    ],
)
def test_a_csv_file_that_cannot_be_told_apart_is_named(tmp_path: Path, content: str, line: str, said: str) -> None:
    problem = only_problem(write(tmp_path / "a.csv", content))
    assert not isinstance(problem, BadRow)
    assert problem.where == f"{tmp_path}/a.csv{line}"
    assert said in problem.message


@pytest.mark.parametrize(("values", "name"), [("1,2,3", "a.csv"), ("1", "a.csv"), ("1\t2\t3", "a.tsv")])
def test_a_row_with_other_columns_than_the_header_is_a_bad_row(tmp_path: Path, values: str, name: str) -> None:
    header = "a,b" if name == "a.csv" else "a\tb"
    content = f"{header}\n{values}\n{header}\n"
    problem, row = read(write(tmp_path / name, content))
    assert isinstance(problem, BadRow) and problem.line == 2 and isinstance(row, Row)
    assert "but the header names 2 columns" in problem.message
    assert ("commas" if name == "a.csv" else "tabs") in problem.message


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt", "a.json"])
def test_a_row_of_ten_megabytes_is_read_whole(tmp_path: Path, name: str) -> None:
    text = "word " * 2_000_000
    content = {
        "a.jsonl": json.dumps({"text": text}) + "\n",
        "a.csv": f'text\n"{text}"\n',
        "a.txt": text,
        "a.json": json.dumps([{"text": text}]),
    }[name]
    [row] = rows_of(write(tmp_path / name, content))
    assert row.values["text"] == text


def test_a_broken_row_of_ten_megabytes_is_named_without_its_text(tmp_path: Path) -> None:
    problem, row = read(write(tmp_path / "a.jsonl", '{"text": "' + "word " * 2_000_000 + '\n{"text": "x"}\n'))
    assert isinstance(problem, BadRow) and isinstance(row, Row)
    assert problem.line == 1 and len(str(problem)) < 300 and row.line == 2


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> int:
    """The longest line, made small enough for a test."""
    for module in (encodings, text_files):
        monkeypatch.setattr(module, "LONGEST", 100)
    return 100


@pytest.mark.parametrize("length", [100, 101, 199, 200, 201, 1000])
def test_a_line_that_is_too_long_is_named_and_the_next_is_read(tmp_path: Path, short: int, length: int) -> None:
    long = json.dumps({"text": "x" * length})
    first, problem, last = read(write(tmp_path / "a.jsonl", f'{{"text": "a"}}\n{long}\n{{"text": "b"}}'))
    assert isinstance(first, Row) and isinstance(problem, BadRow) and isinstance(last, Row)
    assert problem.line == 2 and "more than one row may be" in problem.message
    assert last.line == 3 and last.values == {"text": "b"}


@pytest.mark.parametrize(
    "content", ["text\n" + "x" * 101 + "\n", 'text\n"' + "x\n" * 60 + '"\n', "a,b\nx," + "y" * 98 + "\n"]
)
def test_a_value_that_is_too_long_is_named(tmp_path: Path, short: int, content: str) -> None:
    problem = only_problem(write(tmp_path / "a.csv", content))
    assert problem.where == f"{tmp_path}/a.csv:2"


def test_a_text_that_is_too_long_is_named(tmp_path: Path, short: int) -> None:
    problem = only_problem(write(tmp_path / "a.txt", "x\n" * 60))
    assert problem.where == f"{tmp_path}/a.txt:1" and "more than one row may be" in problem.message
