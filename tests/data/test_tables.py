import datetime
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from trainer.config.data import Source
from trainer.data import tables
from trainer.data.row import BadRow, Row
from trainer.data.sources import read
from trainer.errors import Problem

KINDS = ["a.parquet", "stream.arrow", "file.arrow"]


def write(path: Path, table: pa.Table, rows: int = 100) -> Source:
    """The table in batches of so many rows."""
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=rows, write_page_checksum=True)
    else:
        new = pa.ipc.new_stream if path.stem == "stream" else pa.ipc.new_file
        with pa.OSFile(str(path), "wb") as file, new(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=rows)
    return Source(path=str(path), format="text")


def rows_of(source: Source) -> list[Row]:
    found = list(read(source))
    assert all(isinstance(row, Row) for row in found), found
    return [row for row in found if isinstance(row, Row)]


def problems_of(source: Source) -> list[Problem]:
    return [item for item in read(source) if isinstance(item, Problem)]


def texts(count: int) -> pa.Table:
    return pa.table({"text": [f"row {number} " + "x" * (number % 50) for number in range(count)]})


@pytest.mark.parametrize("name", KINDS)
def test_rows_are_numbered_over_all_batches(tmp_path: Path, name: str) -> None:
    source = write(tmp_path / name, texts(2500), rows=700)
    rows = rows_of(source)
    assert [row.values for row in rows] == texts(2500).to_pylist()
    assert [row.where for row in rows[:2]] == [f"{source.path}:1", f"{source.path}:2"]
    assert [row.line for row in rows] == list(range(1, 2501))


@pytest.mark.parametrize("name", KINDS)
def test_values_are_what_json_would_say(tmp_path: Path, name: str) -> None:
    row: dict[str, Any] = {
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": None}],
        "null": None,
        "number": 3,
        "image": {"bytes": b"\xff\x00", "path": None},
        "word": "x",
    }
    day, time = datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC)
    table = pa.Table.from_pylist([{**row, "day": day, "time": time, "price": decimal.Decimal("1.25")}])
    table = table.set_column(4, "word", table["word"].dictionary_encode())
    [found] = rows_of(write(tmp_path / name, table))
    assert {name: found.values[name] for name in row} == row
    assert found.values["day"] == "2024-02-29"
    assert datetime.datetime.fromisoformat(found.values["time"]) == time
    assert found.values["price"] == 1.25


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_was_cut_off_is_named(tmp_path: Path, name: str) -> None:
    source = write(tmp_path / name, texts(2500))
    path = tmp_path / name
    whole = path.read_bytes()
    for share in (0.05, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        [problem] = problems_of(source)
        assert problem.where == source.path and not isinstance(problem, BadRow)
        assert "it is damaged or was cut off" in problem.message and "\n" not in problem.message


def test_the_rows_before_the_cut_are_read(tmp_path: Path) -> None:
    source = write(tmp_path / "stream.arrow", texts(2500))
    whole = (tmp_path / "stream.arrow").read_bytes()
    (tmp_path / "stream.arrow").write_bytes(whole[: len(whole) // 2])
    *rows, problem = read(source)
    assert 500 < len(rows) < 2000 and isinstance(problem, Problem)


def test_a_damaged_page_is_named(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", texts(100))
    damaged = bytearray((tmp_path / "a.parquet").read_bytes())
    damaged[200] ^= 0xFF
    (tmp_path / "a.parquet").write_bytes(damaged)
    [problem] = problems_of(source)
    assert "it is damaged or was cut off" in problem.message


@pytest.mark.parametrize("name", KINDS)
def test_bytes_that_are_no_text_are_a_bad_row(tmp_path: Path, name: str) -> None:
    values = [b"one", b"caf\xe9", b"three"]
    offsets = pa.py_buffer(b"".join(sum(map(len, values[:end])).to_bytes(4, "little") for end in range(4)))
    column = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"".join(values))])
    first, problem, last = read(write(tmp_path / name, pa.table({"text": column})))
    assert isinstance(first, Row) and isinstance(problem, BadRow) and isinstance(last, Row)
    assert problem.line == 2 and "Invalid UTF8" in problem.message and last.line == 3


@pytest.mark.parametrize("name", KINDS)
def test_a_file_without_rows_and_a_column_named_twice_are_errors(tmp_path: Path, name: str) -> None:
    [problem] = problems_of(write(tmp_path / name, texts(0)))
    assert "holds no row" in problem.message
    if not name.endswith("parquet"):
        [problem] = problems_of(write(tmp_path / name, pa.table([[1], [2]], names=["a", "a"])))
        assert "names the column 'a' twice" in problem.message


@pytest.mark.parametrize("name", KINDS)
def test_large_rows_are_unpacked_a_few_at_a_time(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    unpacked = tables._unpacked

    def watched(part: Any) -> Any:
        sizes.append(part.num_rows)
        return unpacked(part)

    monkeypatch.setattr(tables, "_unpacked", watched)
    source = write(tmp_path / name, pa.table({"text": ["x" * 2**20] * 12 + [""] * 88}))
    monkeypatch.setattr(tables, "BATCH_BYTES", 2**21)
    assert len(rows_of(source)) == 100
    assert sum(sizes) == 100 and max(sizes) <= 20


def test_a_large_row_group_is_read_page_by_page(tmp_path: Path) -> None:
    table = pa.table({"text": [f"{number} " + "x" * 1000 for number in range(100_000)]})
    parquet.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False)
    del table
    before = pa.total_allocated_bytes()
    largest = max(pa.total_allocated_bytes() for _ in read(Source(path=f"{tmp_path}/a.parquet", format="text")))
    assert largest - before < 2**25
