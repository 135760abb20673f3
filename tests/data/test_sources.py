import json
from pathlib import Path

import pytest

from trainer.config.data import Source
from trainer.config.recipe import Recipe
from trainer.data import corpus
from trainer.data.sources import Row, count_rows, read
from trainer.errors import DataError, Problem


def write(path: Path, content: str | bytes) -> Source:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Source(path=str(path), format="text")


def only_problem(source: Source) -> Problem:
    found = [item for item in read(source) if isinstance(item, Problem)]
    assert len(found) == 1
    return found[0]


def test_jsonl_rows_know_their_lines_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", '{"text": "one"}\n\n{"text": "two\u2028"}\r\n{"text": "three"}')
    rows = [row for row in read(source) if isinstance(row, Row)]
    assert [(row.line, row.values["text"]) for row in rows] == [(1, "one"), (3, "two\u2028"), (4, "three")]
    assert rows[1].where == f"{source.path}:3"
    assert count_rows(source) == 3


def test_a_csv_row_stands_where_its_first_line_is(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", '\ufefftext,b\n"two\nlines",1\n\nthree,2\n')
    rows = [row for row in read(source) if isinstance(row, Row)]
    assert [(row.line, dict(row.values)) for row in rows] == [
        (2, {"text": "two\nlines", "b": "1"}),
        (5, {"text": "three", "b": "2"}),
    ]
    assert count_rows(source) == 2


def test_a_csv_value_may_be_as_long_as_a_document(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", "text\n" + "x" * 200_000 + "\n")
    [row] = read(source)
    assert isinstance(row, Row) and len(row.values["text"]) == 200_000


@pytest.mark.parametrize("ending", [".jsonl", ".json-lines", ".JSONL"])
def test_the_ending_chooses_the_reader(tmp_path: Path, ending: str) -> None:
    assert count_rows(write(tmp_path / f"a{ending}", '{"text": "x"}\n')) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": ', "is not JSON: Expecting value at column"),
        ("[", "one object on each line"),
        ("[1, 2]", "is a list, not a JSON object"),
        ("3", "is a number, not a JSON object"),
        ("null", "is null, not a JSON object"),
        ("[" * 100_000, "nested too deep"),
        ('{"text": ' + "1" * 5000 + "}", "is not JSON that can be read"),
    ],
)
def test_a_row_that_is_no_object_is_named_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    problem = only_problem(write(tmp_path / "a.jsonl", '{"text": "x"}\n' + line + "\n"))
    assert problem.where == f"{tmp_path}/a.jsonl:2"
    assert said in problem.message


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_text_that_is_not_utf8_is_named_with_its_line_and_the_way_to_convert_it(tmp_path: Path, name: str) -> None:
    first = b"text\n" if name.endswith("csv") else b'{"text": "x"}\n'
    problem = only_problem(write(tmp_path / name, first + "{caf\u00e9}\n".encode("latin1")))
    assert problem.where == f"{tmp_path}/{name}:2"
    assert "0xe9 at column 5" in problem.message and "iconv" in problem.message


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ("a,b\n1,2\n1,2,3\n", ":3", "has 3 values, but the header names 2 columns"),
        ("a,b\n1\n", ":2", "has 1 values, but the header names 2 columns"),
        ("a,,c\n1,2,3\n", ":1", "without a name; the first line of a CSV file is its header"),
        ("a,a\n1,2\n", ":1", "names the column 'a' twice"),
        ("\n\n", ":1", "is its header"),
        ("a,b\n", "", "holds a header and no row"),
        ('a,b\n"1"x,2\n', ":2", "is not CSV"),
        ('a,b\n1,"2\n', ":2", "is not CSV"),
    ],
)
def test_a_csv_file_that_does_not_add_up_is_named(tmp_path: Path, content: str, line: str, said: str) -> None:
    problem = only_problem(write(tmp_path / "a.csv", content))
    assert problem.where == f"{tmp_path}/a.csv{line}"
    assert said in problem.message


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("trian.jsonl", "did you mean"),
        ("other.jsonl", "holds blank.jsonl, empty.jsonl, train.jsonl"),
        ("nowhere/train.jsonl", "there is no folder"),
        ("folder", "is a folder"),
        ("empty.jsonl", "is empty"),
        ("blank.jsonl", "blank lines only"),
        ("train.parquet", "ends in .parquet; the files that can be read end in .jsonl"),
    ],
)
def test_a_file_that_cannot_be_read_says_the_way_out(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "x"}\n')
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "blank.jsonl").write_text("\n \n")
    (tmp_path / "train.parquet").write_text("x")
    assert said in only_problem(Source(path=str(tmp_path / name), format="text")).message


def test_an_unknown_builtin_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match="did you mean builtin:stdlib"):
        count_rows(Source(path="builtin:stdlb", format="instruction"))


def count(*sources: Source) -> None:
    paths = [source.model_dump() for source in sources]
    corpus.count(Recipe.model_validate({"model": {"name": "-"}, "data": {"train": paths}}))


def test_problems_of_all_sources_come_at_once(tmp_path: Path) -> None:
    broken = write(tmp_path / "a.jsonl", "{\n")
    with pytest.raises(DataError) as raised:
        count(broken, Source(path=str(tmp_path / "b.jsonl"), format="text"))
    assert [problem.where for problem in raised.value.problems] == [f"{tmp_path}/a.jsonl:1", f"{tmp_path}/b.jsonl"]


def test_the_list_of_problems_ends_after_twenty_and_a_thousand_rows_are_looked_at(tmp_path: Path) -> None:
    lines = [json.dumps({"text": number}) for number in range(3000)]
    with pytest.raises(DataError) as raised:
        count(write(tmp_path / "a.jsonl", "\n".join(lines)))
    assert len(raised.value.problems) == 21
    assert "980 more problems" in raised.value.problems[-1].message


def test_rows_that_are_wrong_in_the_same_way_are_told_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        count(write(tmp_path / "a.jsonl", '{"txt": "x"}\n' * 7))
    [problem] = raised.value.problems
    assert problem.where.endswith("a.jsonl:1") and "6 more rows like it" in problem.message
