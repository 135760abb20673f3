"""A query and its candidates, each of which stands after the query in a text of its own."""

import math
from typing import Any

from trainer.data.example import Example
from trainer.data.fields import Fields, Wrong, json_of, kind_of, text_of


def ranking(fields: Fields) -> Example:
    """`query` and `candidates`; how good these are stands in a column of its own."""
    row, query, column = fields.row, fields.text("query"), fields.column("candidates")
    found = json_of(column, fields.value("candidates"), "a list of texts")
    if not isinstance(found, list) or not found:
        raise Wrong(f"{column} is {kind_of(found) if found else 'empty'}, not a list of texts")
    texts = [text_of(f"{column}.{index}", text) for index, text in enumerate(found)]
    if len(set(texts)) < len(texts):
        double = next(text for text in texts if texts.count(text) > 1)
        raise Wrong(f"{column} holds {double[:60]!r} twice; a candidate stands once")
    return Example(row.source, row.line, parts=tuple((query, text) for text in texts), columns=row.values)


def wrong_relevance(name: str, values: Any, candidates: int) -> str | None:
    """What is wrong with the numbers of the candidates; None where nothing is."""
    if not isinstance(values, list):
        return f"{name} is {kind_of(values)}, not a list of numbers, one for each candidate"
    if len(values) != candidates:
        return f"{name} holds {len(values)} numbers for {candidates} candidates; each needs one"
    for index, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            return f"{name}.{index} is {kind_of(value)} {value}, not a number of 0 or more"
    return None


def tells_nothing(values: list[float]) -> str | None:
    """Why there is nothing to learn from these numbers; None where there is."""
    if not any(value > 0 for value in values):
        return "has no positive candidate"
    return "has candidates that are all alike" if len(set(values)) == 1 else None
