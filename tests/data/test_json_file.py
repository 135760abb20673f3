import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config.data import Source
from trainer.data import encodings, json_file
from trainer.data.row import BadRow, Row
from trainer.data.sources import read
from trainer.errors import Problem


def write(path: Path, content: str) -> Source:
    path.write_text(content, encoding="utf-8")
    return Source(path=str(path), format="text")


def problems(source: Source) -> list[Problem]:
    return [item for item in read(source) if isinstance(item, Problem)]


@pytest.mark.parametrize(
    "content",
    [
        '[{"a": 1}, {"a": [{"b": 2}]}]',
        '\ufeff [\n  {\n    "a": 1\n  },\n\n  {"a": [{"b": 2}]}\n]\n',
        '{"data": [{"a": 1}, {"a": [{"b": 2}]}]}',
        '{\n "data" :\n [{"a": 1}, {"a": [{"b": 2}]}]\n}\n',
        '{"a": 1}\n{"a": [{"b": 2}]}\n',
    ],
)
def test_a_list_a_list_under_data_and_objects_on_lines_are_rows(tmp_path: Path, content: str) -> None:
    rows = [row for row in read(write(tmp_path / "a.json", content)) if isinstance(row, Row)]
    assert [(row.line, row.values) for row in rows] == [(1, {"a": 1}), (2, {"a": [{"b": 2}]})]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES), min_size=1),
    st.integers(1, 40),
    st.sampled_from([None, 0, 3]),
)
def test_where_the_pieces_end_changes_no_row(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]], block: int, indent: int | None
) -> None:
    content = json.dumps(rows, ensure_ascii=False, indent=indent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encodings, "BLOCK", block)
        found = list(read(write(tmp_path_factory.mktemp("a") / "a.json", content)))
    assert [row.values for row in found if isinstance(row, Row)] == rows
    assert len(found) == len(rows)


def test_elements_that_are_no_objects_are_bad_rows(tmp_path: Path) -> None:
    found = list(read(write(tmp_path / "a.json", '[{"a": 1}, 12, "x", {"a": 2}]')))
    assert [item.where for item in found if isinstance(item, BadRow)] == [f"{tmp_path}/a.json:{row}" for row in (2, 3)]
    assert [item.line for item in found if isinstance(item, Row)] == [1, 4]


@pytest.mark.parametrize(
    ("content", "where", "said"),
    [
        ('[{"a": 1},\n {"a": 2', ":2", "is not JSON: Expecting ',' delimiter (line 2 of the file)"),
        ('[{"a": 1},\n {"a": "2', ":2", "Unterminated string"),
        ('[{"a": 1},\n {"a" 2}]', ":2", "Expecting ':' delimiter (line 2 of the file)"),
        ('[{"a": 1}\n {"a": 2}]', ":1", "there is no comma after it (line 2 of the file)"),
        ('[{"a": 1}, ]', ":2", "Expecting value"),
        ('[{"a": 1}', ":1", "the list does not end"),
        ("[" + "[" * 100_000, ":1", "nested too deep"),
        ("[" + "1" * 5000 + "]", ":1", "is not JSON: Exceeds the limit"),
        ("[]", "", "holds an empty list"),
        ('[{"a": 1}] 2', "", "holds more after its list"),
        ('{"data": [{"a": 1}]} {"data": []}', "", "holds more after its list"),
        ('{"data": [{"a": 1}], "version": 1}', "", 'holds more than the list under "data"'),
        ('{\n "a": {"0": "x"}\n}', "", "holds one object, not rows"),
        ('{"version": 1,\n "data": []}', "", "holds one object, not rows"),
        ("12", "", "holds no list of rows"),
        ("  ", "", "holds no list of rows"),
    ],
)
def test_a_file_that_is_no_list_of_rows_is_named(tmp_path: Path, content: str, where: str, said: str) -> None:
    [problem] = problems(write(tmp_path / "a.json", content))
    assert problem.where == f"{tmp_path}/a.json{where}" and not isinstance(problem, BadRow)
    assert said in problem.message


def test_a_row_that_never_ends_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_file, "LONGEST", 1000)
    monkeypatch.setattr(encodings, "BLOCK", 100)
    [problem] = problems(write(tmp_path / "a.json", '[{"a": "' + "x" * 10_000 + '"}]'))
    assert problem.where == f"{tmp_path}/a.json:1" and "more than one row may be" in problem.message
