"""One triple of a knowledge graph, as two questions with an answer each: by the head, and back from the tail."""

from trainer.data.example import Example
from trainer.data.fields import Fields, Wrong, kind_of, scalar_of

INVERSE = "inverse "
"""What a relation is called from its tail (SimKGC, Wang et al. 2022)."""
QUERY, TAIL, BACK, HEAD = range(4)
"""The parts of an example: head and relation, the tail, tail and inverse relation, the head."""


def triple(fields: Fields, columns: tuple[str, str, str] = ("head", "relation", "tail")) -> Example:
    """Head, relation and tail from these columns; a row that is asked has no tail, or no head."""
    row = fields.row
    head, relation, tail = (_text(fields, column) for column in columns)
    if relation is None or (head is None and tail is None) or (fields.answered and (head is None or tail is None)):
        missing = next(name for name, text in zip(columns, (head, relation, tail), strict=True) if text is None)
        raise Wrong(f"{missing} is missing or empty; a triple needs {columns[0]}, {columns[1]} and {columns[2]}")
    forth = ((head, relation), (tail,)) if head is not None and tail is not None else ((head, relation),)
    back = ((tail, f"{INVERSE}{relation}"), (head,)) if head is not None and tail is not None else ()
    if head is None:
        forth, back = ((tail, f"{INVERSE}{relation}"),), ()
    parts = tuple(tuple(text for text in part if text is not None) for part in (*forth, *back))
    return Example(row.source, row.line, parts=parts, columns=row.values)


def readable(name: str) -> str:
    """An entity or a relation as words: underscores are spaces."""
    return " ".join(name.replace("_", " ").split())


def _text(fields: Fields, column: str) -> str | None:
    """The text in a column; None where it is missing or empty."""
    value = fields.row.values.get(column)
    if value is None:
        return None
    if isinstance(value, list | dict):
        raise Wrong(f"{column} is {kind_of(value)}, not the name of an entity or of a relation")
    return readable(scalar_of(column, value)) or None
