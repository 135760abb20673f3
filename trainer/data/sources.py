"""From files to rows, one at a time, each with the place that it stands at."""

import csv
import difflib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config.data import Data, HeldOut, Source
from trainer.data import stdlib
from trainer.errors import DataError, Problem, did_you_mean

JSONL = (".jsonl", ".json-lines")
CSV = (".csv",)
BUILTIN = "builtin:"
BUILTINS = {"stdlib": stdlib.rows}
"""Rows that need no file, by their name after `builtin:`."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row as the file holds it."""

    source: str
    """The `path` of its source."""
    line: int
    """The line of the file where it starts, from 1; the number of the row where there is no file."""
    values: Mapping[str, Any]
    """Its columns."""

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.source}:{self.line}"


def train_sources(data: Data) -> list[tuple[str, Source]]:
    """The training sources with their keys."""
    return [(f"data.train.{index}", source) for index, source in enumerate(data.train)]


def validation_sources(data: Data) -> list[tuple[str, Source]]:
    """The validation sources with their keys; none where validation rows are held out."""
    if data.validation is None or isinstance(data.validation, HeldOut):
        return []
    return [(f"data.validation.{index}", source) for index, source in enumerate(data.validation)]


def read(source: Source) -> Iterator[Row | Problem]:
    """The rows of a source in order; a Problem stands where a row cannot be read."""
    try:
        if source.path.startswith(BUILTIN):
            named = _builtin(source.path)
            yield from (Row(source.path, number, values) for number, values in enumerate(named, start=1))
            return
        path = _file(source.path)
        if path.suffix.lower() in CSV:
            yield from _csv_rows(source.path, path)
        else:
            yield from _json_rows(source.path, path)
    except DataError as error:
        yield from error.problems
    except OSError as error:
        yield Problem(source.path, f"cannot be read: {error.strerror or error}")


def count_rows(source: Source) -> int:
    """Rows of a source, exactly, without looking into them; DataError where it cannot be read."""
    if source.path.startswith(BUILTIN):
        return len(_builtin(source.path))
    path = _file(source.path)
    try:
        if path.suffix.lower() in CSV:
            return max(0, sum(1 for _ in _records(source.path, path)) - 1)
        with path.open("rb") as file:
            return sum(1 for line in file if not line.isspace())
    except OSError as error:
        raise DataError([Problem(source.path, f"cannot be read: {error.strerror or error}")]) from error


def identity(source: Source) -> list[Any]:
    """What changes when the rows of a source change: size and time of the file, or Python's version."""
    if source.path.startswith(BUILTIN):
        return [source.path, sys.version]
    path = _file(source.path)
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def _builtin(path: str) -> list[dict[str, str]]:
    name = path.removeprefix(BUILTIN)
    if name not in BUILTINS:
        known = (BUILTIN + other for other in BUILTINS)
        raise DataError([Problem(path, "there are no such built-in rows" + did_you_mean(path, known))])
    return BUILTINS[name]()


def _file(name: str) -> Path:
    """The file of a source; DataError where it is not one that can be read."""
    path = Path(name).expanduser()
    supported = f"{' or '.join(JSONL)} (one JSON object on each line) and {CSV[0]}"
    if path.is_dir():
        raise DataError([Problem(name, f"is a folder; name a file in it that ends in {supported}")])
    if not path.exists():
        raise DataError([Problem(name, f"no such file{_neighbours(path)}")])
    if path.suffix.lower() not in JSONL + CSV:
        ending = f"ends in {path.suffix}" if path.suffix else "has no ending"
        raise DataError([Problem(name, f"{ending}; the files that can be read end in {supported}")])
    if path.stat().st_size == 0:
        raise DataError([Problem(name, "is empty; it needs at least one row")])
    return path


def _neighbours(path: Path) -> str:
    """The files of that folder that the user may have meant."""
    folder = path.parent
    if not folder.is_dir():
        return f"; there is no folder {folder} either"
    names = sorted(other.name for other in folder.iterdir() if other.suffix.lower() in JSONL + CSV)
    stems = difflib.get_close_matches(path.stem, {Path(other).stem for other in names}, n=3, cutoff=0.6)
    near = [str(folder / other) for other in names if Path(other).stem in stems]
    if near:
        return f"; did you mean {' or '.join(near)}?"
    if names:
        return f"; {folder} holds {', '.join(names[:5])}{' and others' if len(names) > 5 else ''}"
    return f"; {folder.resolve()} holds no file that ends in {', '.join(JSONL + CSV)}"


def _lines(name: str, path: Path) -> Iterator[str]:
    """The lines of a file with their ends; DataError at the first one that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                message = (
                    f"is not UTF-8 text (byte 0x{line[error.start]:02x} at column {error.start + 1}); convert the "
                    "file, such as with `iconv -f latin1 -t utf-8`"
                )
                raise DataError([Problem(f"{name}:{number}", message)]) from None


def _json_rows(name: str, path: Path) -> Iterator[Row | Problem]:
    empty = True
    for number, line in enumerate(_lines(name, path), start=1):
        if line.isspace():
            continue
        empty = False
        where = f"{name}:{number}"
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            hint = "; a JSONL file holds one object on each line" if line.strip() in ("[", "{") else ""
            yield Problem(where, f"is not JSON: {error.msg} at column {error.colno}{hint}")
        except RecursionError:
            yield Problem(where, "is not JSON that can be read: it is nested too deep")
        except ValueError as error:
            yield Problem(where, f"is not JSON that can be read: {error}")
        else:
            if isinstance(values, dict):
                yield Row(name, number, values)
            else:
                yield Problem(where, f"is {_kind(values)}, not a JSON object; write {{...}} with one key a column")
    if empty:
        yield Problem(name, "holds blank lines only; it needs at least one row")


def _kind(value: object) -> str:
    """What a JSON value is, in words."""
    kinds = {list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _records(name: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The header and the rows of a CSV file that are not blank, each with the line where it starts."""
    # Python's own limit of 131,072 characters is less than a long document; the setting is the module's.
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(_lines(name, path), strict=True)
    while True:
        start = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            message = f"is not CSV: {error}; values that hold commas, quotes or line ends stand in double quotes"
            raise DataError([Problem(f"{name}:{start}", message)]) from None
        if record is None:
            return
        if record:
            yield start, record


def _csv_rows(name: str, path: Path) -> Iterator[Row | Problem]:
    records = _records(name, path)
    line, header = next(records, (1, []))
    twice = sorted({column for column in header if header.count(column) > 1})
    if not header or not all(column.strip() for column in header) or twice:
        found = (
            f"names the column {twice[0]!r} twice" if twice and twice[0].strip() else "holds a column without a name"
        )
        yield Problem(
            f"{name}:{line}", f"{found}; the first line of a CSV file is its header and names each column once"
        )
        return
    empty = True
    for start, record in records:
        empty = False
        if len(record) == len(header):
            yield Row(name, start, dict(zip(header, record, strict=True)))
        else:
            message = (
                f"has {len(record)} values, but the header names {len(header)} columns; "
                "values that hold commas stand in double quotes"
            )
            yield Problem(f"{name}:{start}", message)
    if empty:
        yield Problem(name, "holds a header and no row; it needs at least one row")
