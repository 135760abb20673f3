import gzip
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import a_recipe
import pyarrow as pa
import pytest
from pyarrow import parquet

from trainer.config.data import Source
from trainer.data import counting, sources
from trainer.data.row import BadRow, Row
from trainer.data.sources import count_rows, identity, name_of, read
from trainer.errors import DataError, Problem

ROWS = [{"text": f"row {number} " + "x" * 200} for number in range(3000)]
KINDS = ["a.jsonl", "a.json", "a.csv", "a.txt", "a.parquet", "a.arrow", "a.jsonl.gz"]


def write(path: Path, rows: list[dict[str, str]] = ROWS) -> Source:
    """The rows in a file of the kind that its name says."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if path.name == "a.parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.name == "a.arrow":
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=100)
    elif path.name == "a.jsonl.gz":
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        texts = {
            "a.jsonl": lines,
            "a.json": json.dumps(rows),
            "a.csv": "text\n" + "".join(row["text"] + "\n" for row in rows),
            "a.txt": "".join(row["text"] + "\n" for row in rows),
        }
        path.write_text(texts[path.name])
    return Source(path=str(path), format="text")


def problems_of(source: Source) -> list[Problem]:
    return [item for item in read(source) if isinstance(item, Problem)]


def test_a_source_is_called_by_its_path_or_the_first_of_several() -> None:
    assert name_of(Source(path="a.csv", format="text")) == "a.csv"
    assert name_of(Source(path=("a.csv",), format="text")) == "a.csv"
    assert name_of(Source(path=("a.csv", "b.csv", "c.csv"), format="text")) == "a.csv and 2 more"


def test_sources_have_the_keys_of_the_recipe() -> None:
    one, two = ({"path": f"{name}.csv", "format": "text"} for name in "ab")
    data = a_recipe.recipe(data={"train": [one, two], "validation": {}, "test": [two]}).data
    assert [key for key, _ in sources.train_sources(data)] == ["data.train.0", "data.train.1"]
    assert sources.validation_sources(data) == []
    assert sources.test_sources(data) == [("data.test.0", Source(path="b.csv", format="text"))]


def test_an_unknown_builtin_lists_the_known_ones() -> None:
    [problem] = problems_of(Source(path="builtin:stdlb", format="instruction"))
    assert "did you mean builtin:stdlib" in problem.message


def test_built_in_rows_are_numbered() -> None:
    rows = read(Source(path="builtin:stdlib", format="instruction"))
    assert [next(rows).where for _ in range(2)] == ["builtin:stdlib:1", "builtin:stdlib:2"]


def count(*named: Source, **data: int) -> None:
    train = [source.model_dump() for source in named]
    counting.count(a_recipe.recipe(data={"train": train, **data}))


def test_problems_of_all_sources_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{\n")
    broken = Source(path=f"{tmp_path}/a.jsonl", format="text")
    with pytest.raises(DataError) as raised:
        count(broken, Source(path=str(tmp_path / "b.jsonl"), format="text"))
    assert [problem.where for problem in raised.value.problems] == [f"{tmp_path}/a.jsonl:1", f"{tmp_path}/b.jsonl"]


def test_all_that_is_wrong_in_the_first_thousand_rows_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": number}) + "\n" for number in range(3000)))
    with pytest.raises(DataError) as raised:
        count(Source(path=f"{tmp_path}/a.jsonl", format="text"))
    assert len(raised.value.problems) == 21
    assert "980 more problems" in raised.value.problems[-1].message


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_changes_while_it_is_read_is_named(tmp_path: Path, kind: str) -> None:
    source = write(tmp_path / kind)
    rows = read(source)
    first = next(rows)
    with (tmp_path / kind).open("ab") as file:
        file.write(b" ")
    assert isinstance(first, Row)
    assert Problem(source.path, "changed while it was read; start again when nothing writes to it any more") in list(
        rows
    )


def test_a_file_that_is_replaced_by_one_of_the_same_size_is_named(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl")
    (tmp_path / "b").mkdir()
    write(tmp_path / "b" / "a.jsonl")
    status = (tmp_path / "a.jsonl").stat()
    os.utime(tmp_path / "b" / "a.jsonl", ns=(status.st_atime_ns, status.st_mtime_ns))
    rows = read(source)
    next(rows)
    (tmp_path / "b" / "a.jsonl").replace(tmp_path / "a.jsonl")
    [problem] = [item for item in rows if isinstance(item, Problem)]
    assert "changed while it was read" in problem.message


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_deleted_while_it_is_read_is_named(tmp_path: Path, kind: str) -> None:
    source = write(tmp_path / kind)
    rows = read(source)
    next(rows)
    (tmp_path / kind).unlink()
    [problem] = [item for item in rows if isinstance(item, Problem)]
    assert problem.where == source.path and "was deleted while it was read" in problem.message


def test_a_file_that_stays_the_same_is_read_to_its_end_without_a_word(tmp_path: Path) -> None:
    for kind in KINDS:
        assert problems_of(write(tmp_path / kind)) == []


@pytest.mark.parametrize("kept", [5, 200, -3])
def test_a_zipped_file_that_was_cut_off_is_named(tmp_path: Path, kept: int) -> None:
    source = write(tmp_path / "a.jsonl.gz")
    whole = (tmp_path / "a.jsonl.gz").read_bytes()
    (tmp_path / "a.jsonl.gz").write_bytes(whole[:kept])
    problem = problems_of(source)[-1]
    assert problem.where == source.path and not isinstance(problem, BadRow)
    assert "is no whole gzip file" in problem.message


def test_a_damaged_zipped_file_is_named(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl.gz")
    whole = bytearray((tmp_path / "a.jsonl.gz").read_bytes())
    for place in range(100, 150):
        whole[place] ^= 0xFF
    (tmp_path / "a.jsonl.gz").write_bytes(whole)
    assert "is no whole gzip file" in problems_of(source)[-1].message
    (tmp_path / "a.jsonl.gz").write_text("this is no zipped file")
    assert "is no whole gzip file" in problems_of(source)[-1].message


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder, while the process has the rights of nobody where it had all."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        if os.getuid() == 0:
            os.seteuid(0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_may_not_be_read_is_named(nobody: Path, kind: str) -> None:
    source = write(nobody / kind)
    (nobody / kind).chmod(0)
    if os.getuid() == 0:
        os.seteuid(65534)
    assert problems_of(source) == [Problem(source.path, "cannot be read: Permission denied")]
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        identity(source)


def test_the_identity_is_that_of_the_content(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl")
    first = identity(source)
    assert json.loads(json.dumps(first)) == first
    os.utime(tmp_path / "a.jsonl", ns=(1, 1))
    assert identity(source) == first
    content = (tmp_path / "a.jsonl").read_bytes()
    (tmp_path / "a.jsonl").write_bytes(content.replace(b"row 7 ", b"row 8 "))
    os.utime(tmp_path / "a.jsonl", ns=(2, 2))
    changed = identity(source)
    assert changed != first
    (tmp_path / "a.jsonl").write_bytes(content)
    os.utime(tmp_path / "a.jsonl", ns=(3, 3))
    assert identity(source) == first


def test_the_identity_of_several_files_depends_on_which_and_on_their_order(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(name)
    one, two = (f"{tmp_path}/{name}.txt" for name in "ab")
    named = [(one,), (two,), (one, two), (two, one), (f"{tmp_path}/*.txt",)]
    assert len({str(identity(Source(path=paths, format="text"))) for paths in named}) == len(named)
    assert identity(Source(path=str(tmp_path), format="text")) == identity(
        Source(path=f"{tmp_path}/*.txt", format="text")
    )


def test_the_identity_of_built_in_rows_is_that_of_this_python() -> None:
    assert identity(Source(path="builtin:stdlib", format="instruction"))[1:] == ["builtin:stdlib", sys.version]


MEASURE = """
import resource, sys
from trainer.config.data import Source
from trainer.data.formats import parse
from trainer.data.sources import read

if not sys.argv[1].endswith("l"):
    import pyarrow.parquet
source = Source(path=sys.argv[1], format="text")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = sum(parse(row, source).columns is row.values for row in read(source))
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def grown(path: Path) -> tuple[int, int]:
    """Rows that a process read, and the MiB by which its memory grew."""
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    rows, kilobytes = map(int, done.stdout.split())
    return rows, kilobytes // 1024


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_counted_as_they_are_read(tmp_path: Path, kind: str) -> None:
    source = write(tmp_path / kind)
    assert count_rows(source) == sum(isinstance(row, Row) for row in read(source)) == (1 if kind == "a.txt" else 3000)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "x"}\n\n[1]\n{"text": "y"}\n'),
        ("a.csv", 'text\n"a\nb"\n\n1,2\nc\n'),
        ("a.tsv", "text\na\nb\tc\nd\n"),
        ("a.json", '[{"text": "x"}, 1, {"text": "y"}]'),
    ],
)
def test_bad_rows_are_counted_too(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    source = Source(path=f"{tmp_path}/{name}", format="text")
    assert [isinstance(row, BadRow) for row in read(source)].count(True) == 1
    assert count_rows(source) == 3


def test_rows_of_all_files_and_of_built_in_sources_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl")
    write(tmp_path / "a.csv")
    assert count_rows(Source(path=(f"{tmp_path}/a.jsonl", f"{tmp_path}/a.csv"), format="text")) == 6000
    builtin = Source(path="builtin:stdlib", format="instruction")
    assert count_rows(builtin) == sum(1 for _ in read(builtin))


@pytest.mark.parametrize("kind", ["a.parquet", "a.arrow", "a.jsonl.gz", "a.json"])
def test_a_file_that_was_cut_off_cannot_be_counted(tmp_path: Path, kind: str) -> None:
    source = write(tmp_path / kind)
    whole = (tmp_path / kind).read_bytes()
    (tmp_path / kind).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=kind):
        count_rows(source)


@pytest.mark.parametrize("kind", ["a.jsonl", "a.json", "a.csv", "a.parquet", "a.arrow"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, kind: str) -> None:
    write(tmp_path / kind, [{"text": f"{number} " + "word " * 500} for number in range(12_000)])
    rows, mebibytes = grown(tmp_path / kind)
    assert rows == 12_000
    assert mebibytes < 25


@pytest.mark.slow
def test_two_gigabytes_are_read_in_350_megabytes(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": f"{number} " + "word " * 500}) + "\n" for number in range(1000)).encode()
    with (tmp_path / "a.jsonl").open("wb") as file:
        while file.tell() < 2 * 10**9:
            file.write(lines)
    rows, mebibytes = grown(tmp_path / "a.jsonl")
    assert rows > 700_000
    assert mebibytes < 350
