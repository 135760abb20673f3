"""Texts that are split into words already, and the tags of the words."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.data.example import Example
from trainer.data.fields import Fields, Wrong, kind_of, scalar_of


def words(fields: Fields) -> Example:
    """`words`, and `tags` where the row has them, one for each word."""
    row, found = fields.row, words_of(fields)
    tags = _list(fields, "tags") if fields.has("tags") else ()
    if tags and len(tags) != len(found):
        raise Wrong(f"{fields.column('tags')} holds {len(tags)} tags for {len(found)} words; each word needs one")
    return Example(row.source, row.line, words=found, tags=tags, columns=row.values)


def words_of(fields: Fields) -> tuple[str, ...]:
    """The words, one at least."""
    found = _list(fields, "words")
    if not found:
        raise Wrong(f"{fields.column('words')} is an empty list; it needs at least one word")
    return found


def need_spaces(backend: Any) -> bool:
    """Whether the tokens of words are those of a text only where each word brings the space before it."""
    text = backend.encode("a a").ids
    alone, spaced = (backend.encode(["a", word], is_pretokenized=True).ids for word in ("a", " a"))
    return bool(alone != text == spaced)


def with_spaces(words: Sequence[str]) -> list[str]:
    """Each word but the first with the space before it."""
    first, *others = words
    return [first, *(f" {word}" for word in others)]


def begins(words: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which tokens begin a word [S], by the number of each one's word, -1 for special tokens [S]."""
    begun: np.ndarray[Any, np.dtype[np.bool_]] = (words >= 0) & np.append(True, words[1:] != words[:-1])
    return begun


def _list(fields: Fields, name: str) -> tuple[str, ...]:
    column, values = fields.column(name), fields.value(name)
    if not isinstance(values, list):
        raise Wrong(f"{column} is {kind_of(values)}, not a list of {name}")
    return tuple(scalar_of(f"{column}.{index}", value) for index, value in enumerate(values))
