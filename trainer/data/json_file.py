"""Rows of a JSON file: a list of objects, or such a list under "data", read piece by piece."""

import json
import re
from collections.abc import Iterator
from typing import Any

from trainer.data.encodings import LONGEST, TextFile
from trainer.data.row import BadRow, Row
from trainer.data.text_files import TOO_LONG, jsonl, kind_of
from trainer.errors import DataError, Problem

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_LITERAL = len("-Infinity")


def json_rows(file: TextFile) -> Iterator[Row | Problem]:
    """The objects of the list, each with its number from 1; objects on lines of their own are read as JSONL.

    DataError where the JSON ends early or goes wrong: what stands after it cannot be told apart.
    """
    reader = _Reader(file)
    under_data = reader.take("{")
    if under_data and not (
        reader.peek() == '"' and reader.value() == "data" and reader.take(":") and reader.peek() == "["
    ):
        yield from _lines(file)
        return
    if not reader.take("["):
        yield Problem(file.name, "holds no list of rows; write [{...}, {...}], or one object on each line")
        return
    if reader.peek() == "]":
        yield Problem(file.name, "holds an empty list; it needs at least one row")
    while not reader.take("]"):
        if reader.row and not reader.take(","):
            raise reader.error("there is no comma after it" if reader.peek() else "the list does not end")
        yield reader.next_row()
    if under_data and not reader.take("}"):
        message = (
            'holds more than the list under "data"; write the rows as one list, or each on a line of a .jsonl file'
        )
        yield Problem(file.name, message)
    elif reader.peek():
        yield Problem(file.name, "holds more after its list; write the rows as one list")


def count_json(file: TextFile) -> int:
    """Rows of a JSON file, wrong ones too; DataError where they cannot be told apart."""
    return sum(isinstance(row, Row | BadRow) for row in json_rows(file))


def _lines(file: TextFile) -> Iterator[Row | Problem]:
    first = next((line for line in file.lines() if not line.isspace()), "")
    try:
        json.loads(first)
    except ValueError:
        message = "holds one object, not rows; write [{...}, {...}], or one object on each line"
        yield Problem(file.name, message)
    else:
        yield from jsonl(file)


class _Reader:
    """JSON values one after another, with no more of the file in memory than the value that is read."""

    def __init__(self, file: TextFile) -> None:
        self.file = file
        self.row = 0
        """The number of the row that was read last."""
        self._blocks = file.blocks()
        self._text, self._at = "", 0
        self._lines = 1
        """The line where `_text` begins."""

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            assert space is not None, "the pattern matches nothing, too"
            self._at = space.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, mark: str) -> bool:
        """Whether the next character is this one, which is then read."""
        found = self.peek() == mark
        self._at += found
        return found

    def next_row(self) -> Row | BadRow:
        """The next value as a row."""
        self.row += 1
        self.peek()
        value = self.value()
        wrong = self.file.wrong(self._text[self._start : self._at])
        if wrong is None and isinstance(value, dict):
            return Row(self.file.name, self.row, value)
        message = wrong or f"is {kind_of(value)}, not a JSON object; write {{...}} with one key a column"
        return BadRow.at(self.file.name, self.row, message)

    def value(self) -> Any:
        """The next value; DataError where it is none."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                unfinished = error.msg.startswith("Unterminated string") or error.pos > len(self._text) - _LITERAL
                if not (unfinished and self._more()):
                    raise self.error(error.msg, error.pos) from None
            except RecursionError:
                raise self.error("it is nested too deep") from None
            except ValueError as error:
                raise self.error(str(error)) from None
            else:
                # A number may go on.
                if end < len(self._text) or not self._more():
                    self._start, self._at = self._at, end
                    return value

    def error(self, message: str, position: int | None = None) -> DataError:
        """What is wrong at a position of the text; null: at the present one."""
        line = self._lines + self._text.count("\n", 0, self._at if position is None else position)
        where = f"{self.file.name}:{self.row}" if self.row else self.file.name
        return DataError([Problem(where, f"is not JSON: {message} (line {line} of the file)")])

    def _more(self) -> bool:
        """Reads on: at least as much as is unread, so that a long value is not parsed too often; false at the end."""
        unread = self._text[self._at :]
        if len(unread) > LONGEST:
            raise self.error(TOO_LONG)
        self._lines += self._text.count("\n", 0, self._at)
        pieces, size = [unread], 0
        for block in self._blocks:
            pieces.append(block)
            size += len(block)
            if size >= len(unread):
                break
        self._text, self._at = "".join(pieces), 0
        return size > 0
