"""Two entities in a text, and how one is related to the other: both stand between marks."""

from dataclasses import dataclass

from trainer.config.relations import MARKERS
from trainer.data.example import Example, Piece
from trainer.data.fields import Fields, Wrong, json_of, kind_of


@dataclass(frozen=True, slots=True)
class Span:
    """The characters of an entity; the end is the first one after it."""

    column: str
    start: int
    end: int


def relation(fields: Fields) -> Example:
    """`text`, and the places of `head` and `tail` in it; the label stands in a column of its own."""
    row, text = fields.row, fields.text("text")
    for marker in MARKERS:
        if marker in text:
            raise Wrong(f"{fields.column('text')} holds {marker}, which marks an entity; take it out of the text")
    head, tail = _span(fields, "head", text), _span(fields, "tail", text)
    if head.start < tail.end and tail.start < head.end:
        way_out = "each needs characters of its own"
        raise Wrong(f"{head.column} [{head.start}, {head.end}] and {tail.column} overlap; {way_out}")
    places = (head.start, head.end, tail.start, tail.end)
    written = text
    # From the last one to the first; where one entity follows the other at once, it begins after that has ended.
    for number in sorted(range(4), key=lambda mark: (places[mark], mark % 2 == 0), reverse=True):
        place = places[number]
        written = f"{written[:place]}{MARKERS[number]}{written[place:]}"
    return Example(row.source, row.line, pieces=(Piece(written, learned=False),), columns=row.values)


def _span(fields: Fields, name: str, text: str) -> Span:
    column = fields.column(name)
    found = json_of(column, fields.value(name), "[start, end]")
    whole = isinstance(found, list) and len(found) == 2 and all(type(place) is int for place in found)
    if not whole:
        raise Wrong(f"{column} is {kind_of(found)}, not [start, end] of its characters in the text")
    start, end = found
    if not 0 <= start < end <= len(text):
        what = "names no character" if start >= end else f"is outside the text, which has {len(text)} characters"
        raise Wrong(f"{column} [{start}, {end}] {what}; the first character is 0, the end is the one after the last")
    return Span(column, start, end)
