"""Tables: from a row to a table, and from a table to lines of text."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from trainer.data.example import Example, question_and_answer
from trainer.data.fields import Fields, Wrong, json_of, kind_of, scalar_of

Style = Literal["markdown", "rows", "key_value"]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of equally many cells below a header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    style: Style

    def head(self) -> str:
        """The caption, and in markdown the header."""
        caption = f"{self.caption}\n\n" if self.caption else ""
        if self.style != "markdown":
            return caption
        return caption + _markdown(self.header) + _markdown(("---",) * len(self.header))

    def lines(self) -> list[str]:
        """Each row with its line end."""
        if self.style == "markdown":
            return [_markdown(row) for row in self.rows]
        header = [_one_line(name) for name in self.header]
        cells = [[(name, _one_line(cell)) for name, cell in zip(header, row, strict=True)] for row in self.rows]
        if self.style == "key_value":
            blocks = ["".join(f"{name}: {cell}\n" for name, cell in row) for row in cells]
            return [block if number == 0 else f"\n{block}" for number, block in enumerate(blocks)]
        said = ["; ".join(f"{name} is {cell}" for name, cell in row) for row in cells]
        return [f"row {number}: {row}\n" for number, row in enumerate(said, start=1)]

    def texts(self) -> Iterator[str]:
        """The caption, the header and the cells."""
        if self.caption:
            yield self.caption
        yield from self.header
        for row in self.rows:
            yield from row

    def with_text(self, change: Callable[[str], str]) -> "Table":
        """The same with each of these changed."""
        rows = tuple(tuple(change(cell) for cell in row) for row in self.rows)
        return Table(tuple(change(name) for name in self.header), rows, change(self.caption), self.style)


def table(fields: Fields) -> Example:
    """`table` and `caption`, then `question`, and `answer`, which is learned."""
    row = fields.row
    column = fields.column("table")
    header, rows = _header_and_rows(column, fields)
    written = Table(header, rows, fields.text_or_none("caption") or "", fields.source.table)
    pieces = question_and_answer(fields.text_or_none("question"), fields.answer("answer"))
    return Example(row.source, row.line, pieces=pieces, listing=written, columns=row.values)


def _header_and_rows(column: str, fields: Fields) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """From a list of objects, a list of lists whose first is the header, or {header, rows}."""
    ways = "a list of objects, a list of lists with the header first, or {header, rows}"
    found = json_of(column, fields.value("table"), ways)
    if isinstance(found, dict) and isinstance(found.get("header"), list) and isinstance(found.get("rows"), list):
        header, rows = found["header"], found["rows"]
    elif isinstance(found, list) and found and all(isinstance(row, dict) for row in found):
        header = list(dict.fromkeys(name for row in found for name in row))
        rows = [[row.get(name) for name in header] for row in found]
    elif isinstance(found, list) and found and all(isinstance(row, list) for row in found):
        header, *rows = found
    else:
        raise Wrong(f"{column} is {'empty' if found == [] else kind_of(found)}; it has to be {ways}")
    if not header or not rows:
        raise Wrong(f"{column} holds no {'row' if header else 'column'}; it needs at least one")
    return _cells(f"{column}.header", header), tuple(
        _row(column, number, row, header) for number, row in enumerate(rows)
    )


def _row(column: str, number: int, row: object, header: list[Any]) -> tuple[str, ...]:
    place = f"{column}, row {number + 1},"
    if not isinstance(row, list):
        raise Wrong(f"{place} is {kind_of(row)}, not a list of cells")
    if len(row) != len(header):
        raise Wrong(f"{place} has {len(row)} cells, and the header names {len(header)} columns")
    return _cells(place, row)


def _cells(place: str, cells: list[Any]) -> tuple[str, ...]:
    """Cells as text; null is an empty one."""
    return tuple("" if cell is None else scalar_of(place, cell) for cell in cells)


def _one_line(cell: str) -> str:
    """A cell with spaces for its line ends, so that a row stays a line."""
    return " ".join(cell.splitlines()) if "\n" in cell or "\r" in cell else cell


def _markdown(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(_one_line(cell).replace("|", "\\|") for cell in cells) + " |\n"
