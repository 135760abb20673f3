"""From a row to what it says, by the format of its source; knows no tokenizer."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trainer.config.data import Data, Source
from trainer.data.sources import Row, read, train_sources, validation_sources
from trainer.errors import Problem, RecipeError, did_you_mean

ROLES = ("assistant", "system", "tool", "user")

FIELDS: Mapping[str, tuple[str, ...]] = {
    "completion": ("prompt", "completion"),
    "instruction": ("instruction", "input", "output"),
    "chat": ("messages",),
    "text": ("text",),
}
"""The fields of each format."""
OPTIONAL = ("input",)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text, and whether the model learns it."""

    text: str
    learned: bool


@dataclass(frozen=True, slots=True)
class Example:
    """What one row says: either pieces of text, or a conversation that a chat template writes out."""

    source: str
    line: int
    pieces: tuple[Piece, ...] = ()
    messages: tuple[Mapping[str, Any], ...] = ()

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.source}:{self.line}"

    def texts(self) -> Iterator[str]:
        """All that it says, roles included."""
        yield from (piece.text for piece in self.pieces)
        for message in self.messages:
            yield f"{message['role']}\n"
            yield message["content"]

    def digest(self, seed: int) -> int:
        """A number of 64 bits that depends on the seed and on what the row says, not on where it stands."""
        content = hashlib.blake2b(str(seed).encode(), digest_size=8)
        for text in self.texts():
            content.update(f"\0{len(text)}\0{text}".encode())
        return int.from_bytes(content.digest())


class _Wrong(Exception):
    """What is wrong with a row."""


def check_fields(data: Data) -> None:
    """RecipeError where `fields` names a field that its format does not have."""
    problems = [
        Problem(
            f"{key}.fields",
            f"{name} is not a field of the format {source.format}" + did_you_mean(name, FIELDS[source.format]),
        )
        for key, source in (*train_sources(data), *validation_sources(data))
        for name in source.fields
        if name not in FIELDS[source.format]
    ]
    if problems:
        raise RecipeError(problems)


def examples(key: str, source: Source) -> Iterator[Example | Problem]:
    """What the rows of a source say, in order; a Problem stands where one is wrong. `key` is the source's own."""
    for row in read(source):
        yield parse(row, source, key) if isinstance(row, Row) else row


def parse(row: Row, source: Source, key: str = "data.train.0") -> Example | Problem:
    """What one row says, or the first thing that is wrong with it."""
    try:
        return _PARSERS[source.format](row, source, key)
    except _Wrong as wrong:
        return Problem(row.where, str(wrong))


def _completion(row: Row, source: Source, key: str) -> Example:
    prompt, completion = (_text(row, source, key, name) for name in FIELDS["completion"])
    return Example(row.source, row.line, pieces=(Piece(prompt, False), Piece(completion, True)))


def _plain_text(row: Row, source: Source, key: str) -> Example:
    return Example(row.source, row.line, pieces=(Piece(_text(row, source, key, "text"), True),))


def _instruction(row: Row, source: Source, key: str) -> Example:
    instruction, output = _text(row, source, key, "instruction"), _text(row, source, key, "output")
    named = "input" in source.fields or row.values.get("input") is not None
    more = _text(row, source, key, "input") if named else ""
    question = f"{instruction}\n\n{more}" if more else instruction
    messages = ({"role": "user", "content": question}, {"role": "assistant", "content": output})
    return Example(row.source, row.line, messages=messages)


def _chat(row: Row, source: Source, key: str) -> Example:
    column, messages = _value(row, source, key, "messages")
    if not isinstance(messages, list):
        hint = "; CSV cannot hold a conversation, JSONL can" if row.source.lower().endswith(".csv") else ""
        raise _Wrong(f"{column} is {_kind(messages)}, not a list of {{role, content}}{hint}")
    if not messages:
        raise _Wrong(f"{column} is an empty list; a conversation needs at least one message of the assistant")
    for index, message in enumerate(messages):
        _check_message(f"{column}.{index}", message)
    if all(message["role"] != "assistant" for message in messages):
        raise _Wrong(f"{column} holds no message of the assistant, so nothing can be learned from it")
    return Example(row.source, row.line, messages=tuple(messages))


def _check_message(place: str, message: object) -> None:
    if not isinstance(message, dict):
        raise _Wrong(f"{place} is {_kind(message)}, not an object {{role, content}}")
    for name in ("role", "content"):
        if name not in message:
            raise _Wrong(f"{place} has no {name}; it has {_names(message)}")
    if message["role"] not in ROLES:
        raise _Wrong(f"{place}.role is {message['role']!r}, which is none of {', '.join(ROLES)}")
    _check_text(f"{place}.content", message["content"])


def _text(row: Row, source: Source, key: str, name: str) -> str:
    column, value = _value(row, source, key, name)
    if value is None and name in OPTIONAL:
        return ""
    return _check_text(column, value)


def _value(row: Row, source: Source, key: str, name: str) -> tuple[str, Any]:
    """The column that holds a field, and its value in this row."""
    column = source.fields.get(name, name)
    if column in row.values:
        return column, row.values[column]
    suggestion = did_you_mean(column, row.values)
    near = suggestion if "did you mean" in suggestion else ""
    if name in source.fields:
        way_out = f"mend {key}.fields.{name}"
    else:
        way_out = f"where the column has another name, say so: {key}.fields: {{{name}: <column>}}"
    header = "; the first line of a CSV file names its columns" if row.source.lower().endswith(".csv") else ""
    separator = (
        "; values are separated by commas"
        if header and any(";" in other or "\t" in other for other in row.values)
        else ""
    )
    raise _Wrong(f"has no {column}; it has {_names(row.values)}{near}{header}{separator}; {way_out}")


def _check_text(place: str, value: object) -> str:
    if not isinstance(value, str):
        hint = "; leave the row out or give it text" if value is None else "; it has to be text"
        raise _Wrong(f"{place} is {_kind(value)}{hint}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(value[error.start]):04x}"
            raise _Wrong(f"{place} holds {half}, half of a character pair, which is not text; leave it out") from None
    return value


def _names(names: Iterable[object]) -> str:
    """Up to ten column names, each in at most 40 characters."""
    all_names = [str(name) for name in names]
    shown = [name if len(name) <= 40 else name[:37] + "..." for name in all_names[:10]]
    return (", ".join(shown) or "no column") + (" and others" if len(all_names) > 10 else "")


def _kind(value: object) -> str:
    """What a value is, in words."""
    kinds = {list: "a list", dict: "an object", bool: "true or false", type(None): "null", str: "text"}
    return kinds.get(type(value), f"the number {value}")


_PARSERS: Mapping[str, Callable[[Row, Source, str], Example]] = {
    "completion": _completion,
    "instruction": _instruction,
    "chat": _chat,
    "text": _plain_text,
}
