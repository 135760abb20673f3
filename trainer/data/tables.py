"""Rows of Parquet and Arrow files, a batch at a time, each with its number from 1."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.data.row import BadRow, Row
from trainer.errors import DataError, Problem

if TYPE_CHECKING:
    from pyarrow import Array, ChunkedArray, RecordBatch, Table
    from pyarrow.parquet import ParquetFile

BATCH_BYTES = 2**22
"""Bytes of the rows that are unpacked at a time, unless one row has more."""
BATCH_ROWS = 1000
_ARROW_FILE = b"ARROW1"
"""How a file of Arrow's file format begins; one of its stream format does not."""


def parquet(name: str, path: Path) -> Iterator[Row | Problem]:
    """The rows of a Parquet file; DataError where it ends early or is damaged."""
    with _parquet_file(name, path) as file:
        about = file.metadata
        size = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
        yield from rows(name, file.iter_batches(_at_a_time(size, about.num_rows)))


def count_parquet(name: str, path: Path) -> int:
    """Rows of a Parquet file, as its end says; DataError where it ends early."""
    with _parquet_file(name, path) as file:
        return int(file.metadata.num_rows)


@contextmanager
def _parquet_file(name: str, path: Path) -> Iterator["ParquetFile"]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        # Page by page: a group of rows may be larger than memory.
        with ParquetFile(path, buffer_size=2**20, pre_buffer=False, page_checksum_verification=True) as file:
            yield file
    except (ArrowException, OSError) as error:
        raise _damaged(name, "Parquet", error) from error


def arrow(name: str, path: Path) -> Iterator[Row | Problem]:
    """The rows of an Arrow file of either format; DataError where it ends early or is damaged."""
    with _arrow_batches(name, path) as batches:
        yield from rows(name, batches)


def count_arrow(name: str, path: Path) -> int:
    """Rows of an Arrow file, whose batches are read for it; DataError where it ends early."""
    with _arrow_batches(name, path) as batches:
        return sum(batch.num_rows for batch in batches)


@contextmanager
def _arrow_batches(name: str, path: Path) -> Iterator["Iterable[RecordBatch]"]:
    from pyarrow import ArrowException, OSFile, ipc

    try:
        # Not mapped into memory: a mapped file that shrinks ends the process.
        with OSFile(str(path)) as file:
            if file.read(len(_ARROW_FILE)) == _ARROW_FILE:
                whole = ipc.open_file(file)
                yield map(whole.get_batch, range(whole.num_record_batches))
            else:
                file.seek(0)
                yield ipc.open_stream(file)
    except (ArrowException, OSError) as error:
        raise _damaged(name, "Arrow", error) from error


def rows(name: str, batches: "Iterable[RecordBatch | Table]") -> Iterator[Row | Problem]:
    """The rows of all batches, numbered from 1."""
    number = 0
    for batch in batches:
        names = batch.schema.names
        twice = sorted({column for column in names if names.count(column) > 1})
        if twice:
            raise DataError([Problem(name, f"names the column {twice[0]!r} twice; give each column a name of its own")])
        batch.validate()
        step = _at_a_time(batch.nbytes, batch.num_rows)
        for start in range(0, batch.num_rows, step):
            for values in _unpacked(batch.slice(start, step)):
                number += 1
                yield Row(name, number, values) if isinstance(values, dict) else BadRow.at(name, number, values)
    if number == 0:
        yield Problem(name, "holds no row; it needs at least one")


def _unpacked(part: "RecordBatch | Table") -> list[dict[str, Any] | str]:
    """Each row as a dict, or what is wrong with it."""
    from pyarrow import ArrowInvalid

    try:
        part.validate(full=True)
    except ArrowInvalid as error:
        if part.num_rows == 1:
            return [f"cannot be read: {error}"]
        return [row for number in range(part.num_rows) for row in _unpacked(part.slice(number, 1))]
    columns = [_as_json(column).to_pylist() for column in part.columns]
    return [dict(zip(part.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]


def _as_json(column: "Array | ChunkedArray") -> "Array | ChunkedArray":
    """Dates and times as ISO text, decimals as numbers: what JSON and CSV files say, too."""
    from pyarrow import float64, string, types

    if types.is_date(column.type) or types.is_timestamp(column.type) or types.is_time(column.type):
        return column.cast(string())
    return column.cast(float64()) if types.is_decimal(column.type) else column


def _at_a_time(size: int, count: int) -> int:
    """How many of `count` rows that take `size` bytes are unpacked at a time."""
    return max(1, min(BATCH_ROWS, BATCH_BYTES * count // max(size, 1)))


def _damaged(name: str, kind: str, error: Exception) -> Exception:
    """What is said of a file that its library cannot read; errors of the system stay what they are."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    reason = str(error).splitlines()[0]
    return DataError(
        [Problem(name, f"is no whole {kind} file ({reason}); it is damaged or was cut off: copy it again")]
    )
