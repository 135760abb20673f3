"""From files and sets to rows, one at a time, each with the place that it stands at."""

import functools
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config.data import Data, HeldOut, Source
from trainer.data import hub, json_file, stdlib, tables, text_files
from trainer.data.encodings import FOUND, TextFile
from trainer.data.files import BUILTIN, Builtin, File, HubSet, Part, parts
from trainer.data.row import Row
from trainer.errors import DataError, Problem, did_you_mean

__all__ = [
    "Row",
    "count_rows",
    "identity",
    "name_of",
    "notes",
    "read",
    "test_sources",
    "train_sources",
    "validation_sources",
]

BUILTINS = {"stdlib": stdlib.rows}
"""Rows that need no file, by their name after `builtin:`."""


@dataclass(frozen=True)
class TextReader:
    """How a kind of text is read."""

    rows: Callable[[TextFile], Iterator[Row | Problem]]
    count: Callable[[TextFile], int]


@dataclass(frozen=True)
class TableReader:
    """How a kind of table is read, by the name of its file and its path."""

    rows: Callable[[str, Path], Iterator[Row | Problem]]
    count: Callable[[str, Path], int]


READERS: dict[str, TextReader | TableReader] = {
    "jsonl": TextReader(text_files.jsonl, text_files.count_lines),
    "json": TextReader(json_file.json_rows, json_file.count_json),
    "csv": TextReader(text_files.csv_rows, text_files.count_csv),
    "tsv": TextReader(text_files.tsv_rows, text_files.count_tsv),
    "text": TextReader(text_files.text, text_files.count_texts),
    "parquet": TableReader(tables.parquet, tables.count_parquet),
    "arrow": TableReader(tables.arrow, tables.count_arrow),
}


def train_sources(data: Data) -> list[tuple[str, Source]]:
    """The training sources with their keys."""
    return [(f"data.train.{index}", source) for index, source in enumerate(data.train)]


def validation_sources(data: Data) -> list[tuple[str, Source]]:
    """The validation sources with their keys; none where validation rows are held out."""
    return _named("data.validation", data.validation)


def test_sources(data: Data) -> list[tuple[str, Source]]:
    """The test sources with their keys; none where test rows are held out."""
    return _named("data.test", data.test)


def _named(key: str, named: HeldOut | tuple[Source, ...] | None) -> list[tuple[str, Source]]:
    if named is None or isinstance(named, HeldOut):
        return []
    return [(f"{key}.{index}", source) for index, source in enumerate(named)]


def name_of(source: Source) -> str:
    """What messages call a source: its path, or the first of several and how many more there are."""
    if isinstance(source.path, str):
        return source.path
    more = len(source.path) - 1
    return source.path[0] + (f" and {more} more" if more else "")


def read(source: Source) -> Iterator[Row | Problem]:
    """The rows of a source in order.

    A BadRow stands where one row cannot be read. Any other Problem is about a whole file, and comes after those rows of
    it that could be read.
    """
    try:
        found = parts(source)
    except DataError as error:
        yield from error.problems
        return
    for part in found:
        try:
            yield from _read_file(part, source.encoding) if isinstance(part, File) else _read_set(part)
        except DataError as error:
            yield from error.problems


def _read_set(part: Builtin | HubSet) -> Iterator[Row | Problem]:
    if isinstance(part, HubSet):
        yield from hub.rows(part)
    else:
        yield from (Row(part.name, number, values) for number, values in enumerate(_builtin(part.name), start=1))


def _read_file(file: File, encoding: str | None) -> Iterator[Row | Problem]:
    """The rows of a file, and whether it stayed the same while they were read."""
    with _faults(file):
        before = _state(file.path)
        try:
            reader = READERS[file.kind]
            if isinstance(reader, TextReader):
                yield from reader.rows(TextFile(file.name, file.path, encoding))
            else:
                yield from reader.rows(file.name, file.path)
        except DataError as error:
            yield from error.problems
        if _state(file.path) != before:
            yield Problem(file.name, "changed while it was read; start again when nothing writes to it any more")


def count_rows(source: Source) -> int:
    """Rows of a source, those included that are wrong in themselves; DataError where they cannot be told apart."""
    return sum(_count(part, source.encoding) for part in parts(source))


def _count(part: Part, encoding: str | None) -> int:
    if isinstance(part, HubSet):
        return hub.count(part)
    if isinstance(part, Builtin):
        return len(_builtin(part.name))
    with _faults(part):
        reader = READERS[part.kind]
        if isinstance(reader, TextReader):
            return reader.count(TextFile(part.name, part.path, encoding))
        return reader.count(part.name, part.path)


@contextmanager
def _faults(file: File) -> Iterator[None]:
    """DataError for what the system has to say of a file."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError([Problem(file.name, "was deleted while it was read; put it back and start again")]) from error
    except OSError as error:
        # The system's own words: some libraries put theirs around them.
        reason = os.strerror(error.errno) if error.errno else error
        raise DataError([Problem(file.name, f"cannot be read: {reason}")]) from error


def _state(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def notes() -> list[str]:
    """What there is to say of the files that this process has read: the encodings that nobody stated."""
    said = []
    for encoding in sorted(set(FOUND.values())):
        names = sorted(name for name in FOUND if FOUND[name] == encoding)
        more = f" and {len(names) - 1:,} more files are" if len(names) > 1 else " is"
        said.append(f"{names[0]}{more} read as {encoding}; where that is wrong, say `encoding` beside the path.")
    return said


def identity(source: Source) -> list[Any]:
    """What changes when the rows of a source change: the content of its files, the commit of a set of the hub, Python's
    version. DataError where it cannot be read.
    """
    content = hashlib.blake2b(digest_size=16)
    others: list[str | None] = []
    for part in parts(source):
        if isinstance(part, File):
            with _faults(part):
                digest = _digest(part.path.absolute(), _state(part.path))
            content.update(f"{part.name}\0{digest}\0".encode(errors="surrogateescape"))
        elif isinstance(part, HubSet):
            others += [part.name, part.config, part.split, hub.commit(part.name, part.revision)]
        else:
            others += [part.name, sys.version]
    return [content.hexdigest(), *others]


@functools.cache
def _digest(path: Path, state: tuple[int, ...]) -> str:
    """A hash of what a file holds, made once in a process for each state of the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _builtin(name: str) -> list[dict[str, str]]:
    rows = BUILTINS.get(name.removeprefix(BUILTIN))
    if rows is None:
        known = (BUILTIN + other for other in BUILTINS)
        raise DataError([Problem(name, "there are no such built-in rows" + did_you_mean(name, known))])
    return rows()
