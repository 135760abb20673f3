"""Takes the fields of a format out of a row, and says what is wrong with one that does not fit."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainer.config.data import Source
from trainer.data.row import Row
from trainer.errors import did_you_mean

FIELDS: Mapping[str, tuple[str, ...]] = {
    "completion": ("prompt", "completion"),
    "instruction": ("instruction", "input", "output"),
    "chat": ("messages", "tools", "role", "content"),
    "text": ("text",),
    "pair": ("texts", "text_a", "text_b", "label"),
    "table": ("table", "caption", "question", "answer"),
    "triples": ("triples", "head", "relation", "tail", "question", "answer", "names", "descriptions"),
    "words": ("words", "tags"),
    "entities": ("words", "entities", "relations"),
    "relation": ("text", "head", "tail"),
    "triple": (),
    "ranking": ("query", "candidates"),
    "image": ("image",),
    "image_text": ("messages", "prompt", "question", "answer", "images", "image", "tools", "role", "content"),
}
"""What the recipe may map to columns, by format; role and content are keys of a message."""


class Wrong(Exception):
    """What is wrong with a row."""


@dataclass(frozen=True, slots=True)
class Fields:
    """One row by the names that its format has for the columns."""

    row: Row
    source: Source
    key: str
    """The key of the source in the recipe."""
    answered: bool = True
    """Whether the row has to hold what is learned."""

    def column(self, name: str) -> str:
        """The column that holds a field."""
        return self.source.fields.get(name, name)

    def has(self, name: str) -> bool:
        """Whether the recipe maps the field, or the row holds a column of its name that is not null."""
        return name in self.source.fields or self.row.values.get(name) is not None

    def value(self, name: str) -> Any:
        """What stands in the column; Wrong where there is none."""
        column = self.column(name)
        if column not in self.row.values:
            raise Wrong(self._absent(name, column))
        return self.row.values[column]

    def text(self, name: str) -> str:
        """The text in the column; Wrong where it is none."""
        return text_of(self.column(name), self.value(name))

    def text_or_none(self, name: str) -> str | None:
        """The text in the column; None where there is no such column, or null in it."""
        return None if not self.has(name) or self.value(name) is None else self.text(name)

    def answer(self, name: str) -> str | None:
        """What is learned, text or a number written out; None where the row need not hold it."""
        return scalar_of(self.column(name), self.value(name)) if self.answered else None

    def of_either(self, *groups: tuple[str, ...]) -> tuple[str, ...]:
        """The one group of fields that the recipe maps or the row holds; Wrong where that is none or several."""
        mapped = [group for group in groups if any(name in self.source.fields for name in group)]
        found = mapped or [group for group in groups if any(name in self.row.values for name in group)]
        if len(found) == 1:
            return found[0]
        columns = [" and ".join(group) for group in groups]
        if found:
            name = found[0][0]
            way_out = f"say which one counts, such as {self.key}.fields: {{{name}: {self.column(name)}}}"
            raise Wrong(f"has both {' and '.join(columns)}; {way_out}")
        raise Wrong(
            f"has neither {' nor '.join(columns)}; it has {names(self.row.values)}; {self._way_out(groups[0][0])}"
        )

    @property
    def is_csv(self) -> bool:
        """Whether the row comes from a file that holds texts only."""
        return self.row.source.lower().endswith((".csv", ".tsv"))

    def _way_out(self, name: str) -> str:
        if name in self.source.fields:
            return f"mend {self.key}.fields.{name}"
        return f"where the column has another name, say so: {self.key}.fields: {{{name}: <column>}}"

    def _absent(self, name: str, column: str) -> str:
        suggestion = did_you_mean(column, self.row.values)
        near = suggestion if "did you mean" in suggestion else ""
        header = "; the first line of a CSV file names its columns" if self.is_csv else ""
        joined = header and any(";" in other or "\t" in other for other in self.row.values)
        separator = "; values are separated by commas" if joined else ""
        return f"has no {column}; it has {names(self.row.values)}{near}{header}{separator}; {self._way_out(name)}"


def text_of(place: str, value: object) -> str:
    """The value, which is text; Wrong where it is not."""
    if not isinstance(value, str):
        hint = "; leave the row out or give it text" if value is None else "; it has to be text"
        raise Wrong(f"{place} is {kind_of(value)}{hint}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(value[error.start]):04x}"
            raise Wrong(f"{place} holds {half}, half of a character pair, which is not text; leave it out") from None
    return value


def scalar_of(place: str, value: object) -> str:
    """Text, a number, true or false as text; Wrong where it is none of these."""
    return json.dumps(value) if isinstance(value, int | float) else text_of(place, value)


def json_of(place: str, value: object, wanted: str) -> Any:
    """What a text says as JSON, other values as they are; Wrong where it is no JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise Wrong(f"{place} is text that is not JSON; it has to be {wanted}") from None


def check_plain(place: str, value: object) -> None:
    """Wrong where a value is not what JSON can say, or holds half of a character pair."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        raise Wrong(
            f"{place} holds a value that JSON does not have; it has to be text, numbers, lists and objects"
        ) from None
    text_of(place, text)


def names(found: Iterable[object]) -> str:
    """Up to ten column names, each in at most 40 characters."""
    all_names = [str(name) for name in found]
    shown = [name if len(name) <= 40 else name[:37] + "..." for name in all_names[:10]]
    return (", ".join(shown) or "no column") + (" and others" if len(all_names) > 10 else "")


def kind_of(value: object) -> str:
    """What a value is, in words."""
    kinds = {list: "a list", dict: "an object", bool: "true or false", type(None): "null", str: "text"}
    if type(value) in kinds:
        return kinds[type(value)]
    return f"the number {value}" if isinstance(value, int | float) else f"of the type {type(value).__name__}"
