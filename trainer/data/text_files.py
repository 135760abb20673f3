"""Rows of JSONL, CSV, TSV and plain text, one at a time, each with the line that it starts at."""

import csv
import json
from collections.abc import Iterator

from trainer.data.encodings import LONGEST, TextFile
from trainer.data.row import BadRow, Row
from trainer.errors import DataError, Problem

TOO_LONG = f"is longer than {LONGEST:,} characters, more than one row may be"

_from_json = json.JSONDecoder().decode


def jsonl(file: TextFile) -> Iterator[Row | Problem]:
    """One JSON object on each line; blank lines are no rows."""
    empty = True
    for number, line in enumerate(_whole_lines(file), start=1):
        if isinstance(line, BadRow):
            yield line
        elif not line.isspace():
            yield _object(file, number, line)
        else:
            continue
        empty = False
    if empty:
        yield Problem(file.name, "holds blank lines only; it needs at least one row")


def count_lines(file: TextFile) -> int:
    """Rows of a JSONL file, wrong ones too."""
    return sum(isinstance(line, BadRow) or not line.isspace() for line in _whole_lines(file))


def _whole_lines(file: TextFile) -> Iterator[str | BadRow]:
    """The lines; in place of one that is too long to be a row, what is wrong with it."""
    number, rest_of_long = 1, False
    for line in file.lines():
        ends = line.endswith("\n")
        if not rest_of_long:
            yield line if ends or len(line) < LONGEST else BadRow.at(file.name, number, TOO_LONG)
        rest_of_long = not ends
        number += ends


def _object(file: TextFile, number: int, line: str) -> Row | BadRow:
    try:
        values = _from_json(line)
    except RecursionError:
        message = "is not JSON that can be read: it is nested too deep"
    except json.JSONDecodeError as error:
        hint = "; a JSONL file holds one object on each line" if line.strip() in ("[", "{") else ""
        message = file.wrong(line) or f"is not JSON: {error.msg.removesuffix(' at')} at column {error.colno}{hint}"
    except ValueError as error:
        message = f"is not JSON that can be read: {error}"
    else:
        wrong = file.wrong(line)
        if wrong is None and isinstance(values, dict):
            return Row(file.name, number, values)
        message = wrong or f"is {kind_of(values)}, not a JSON object; write {{...}} with one key a column"
    return BadRow.at(file.name, number, message)


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    kinds = {list: "a list", dict: "an object", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def text(file: TextFile) -> Iterator[Row | Problem]:
    """The whole file as one row {text}."""
    content = ""
    for block in file.blocks():
        content += block
        if len(content) > LONGEST:
            yield BadRow.at(file.name, 1, TOO_LONG)
            return
    wrong = file.wrong(content) if content else "is empty"
    yield BadRow.at(file.name, 1, wrong) if wrong else Row(file.name, 1, {"text": content})


def count_texts(file: TextFile) -> int:
    """Rows of a file of text."""
    return 1


def csv_rows(file: TextFile) -> Iterator[Row | Problem]:
    """The rows below a header that names each column once, their values separated by commas."""
    return _table(file, ",")


def tsv_rows(file: TextFile) -> Iterator[Row | Problem]:
    """The same, separated by tabs."""
    return _table(file, "\t")


def count_csv(file: TextFile) -> int:
    """Rows of a CSV file, wrong ones too; DataError where quotes do not pair."""
    return max(0, sum(1 for _ in _records(file, ",")) - 1)


def count_tsv(file: TextFile) -> int:
    """The same, of a TSV file."""
    return max(0, sum(1 for _ in _records(file, "\t")) - 1)


def _table(file: TextFile, separator: str) -> Iterator[Row | Problem]:
    records = _records(file, separator)
    line, header, wrong = next(records, (1, [], None))
    twice = sorted({column for column in header if header.count(column) > 1})
    if wrong or not header or not all(column.strip() for column in header) or twice:
        found = (
            f"names the column {twice[0]!r} twice" if twice and twice[0].strip() else "holds a column without a name"
        )
        rule = f"; the first line of a {_kind(separator)} file is its header and names each column once"
        yield Problem(f"{file.name}:{line}", wrong or found + rule)
        return
    empty = True
    for start, record, wrong in records:
        empty = False
        if wrong is not None:
            yield BadRow.at(file.name, start, wrong)
        elif len(record) == len(header):
            yield Row(file.name, start, dict(zip(header, record, strict=True)))
        else:
            message = (
                f"has {len(record)} values, but the header names {len(header)} columns; "
                f"values that hold {_named(separator)} stand in double quotes"
            )
            yield BadRow.at(file.name, start, message)
    if empty:
        yield Problem(file.name, "holds a header and no row; it needs at least one row")


def _records(file: TextFile, separator: str) -> Iterator[tuple[int, list[str], str | None]]:
    """The header and the rows that are not blank: where each starts, its values, and what bytes of it are no text.

    DataError where quotes do not pair: what stands after it cannot be told apart.
    """
    # Python's own limit of 131,072 characters is less than a long document; the setting is the module's.
    csv.field_size_limit(LONGEST)
    wrong: list[str] = []

    def watched() -> Iterator[str]:
        for number, line in enumerate(file.lines(), start=1):
            if len(line) >= LONGEST and not line.endswith("\n"):
                raise DataError([Problem(f"{file.name}:{number}", TOO_LONG)])
            if (message := file.wrong(line)) is not None:
                wrong.append(message)
            yield line

    reader = csv.reader(watched(), delimiter=separator, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            kind, rule = _kind(separator), f"values that hold {_named(separator)}, quotes or line ends stand in"
            message = f"is not {kind}: {error}; {rule} double quotes"
            raise DataError([Problem(f"{file.name}:{start}", message)]) from None
        if record is None:
            return
        if record:
            yield start, record, wrong[0] if wrong else None
        wrong.clear()


def _kind(separator: str) -> str:
    return "CSV" if separator == "," else "TSV"


def _named(separator: str) -> str:
    return "commas" if separator == "," else "tabs"
