"""What one row says, whatever its format; knows no file and no tokenizer."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

SEAM = " \t\r\n"
"""White space between two pieces belongs to neither: a change of a text leaves it."""

THOUGHT = "reasoning_content"
"""The key of a message for what is thought before its content is said."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text, and whether the model learns it."""

    text: str
    learned: bool


class Listing(Protocol):
    """Lines below a head, such as a table; the last lines are left out where `data.max_length` has no room."""

    def head(self) -> str:
        """What stands above the lines, its line end included; empty where nothing does."""

    def lines(self) -> Sequence[str]:
        """Each line with its end."""

    def texts(self) -> Iterator[str]:
        """The texts that the user wrote, unwritten."""

    def with_text(self, change: Callable[[str], str]) -> Self:
        """The same with each of these texts changed."""


@dataclass(frozen=True, slots=True)
class Example:
    """What one row says.

    A conversation has messages alone; sequences or a listing stand before the pieces; words and parts stand alone.
    """

    source: str
    line: int
    pieces: tuple[Piece, ...] = ()
    messages: tuple[Mapping[str, Any], ...] = ()
    """Objects with a role and content (null beside tool_calls), and what else a chat template reads."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """Descriptions of the functions that a conversation may call."""
    sequences: tuple[str, ...] = ()
    """Texts that the tokenizer's own separators stand between."""
    parts: tuple[tuple[str, ...], ...] = ()
    """What the model reads apart, such as a source and its target: each is one text or several, as sequences are."""
    listing: Listing | None = None
    words: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    """One for each word, or none at all."""
    images: tuple[Any, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)
    """The row as the file holds it."""

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.source}:{self.line}"

    def texts(self) -> Iterator[str]:
        """All that it says, roles included, tags left out."""
        yield from self.sequences
        if self.listing is not None:
            yield from self.listing.texts()
        yield from (piece.text for piece in self.pieces)
        yield from self.words
        for part in self.parts:
            yield from part
        if self.tools:
            yield json.dumps(self.tools, ensure_ascii=False)
        for message in self.messages:
            yield f"{message['role']}\n"
            yield message["content"] or ""
            if THOUGHT in message:
                yield message[THOUGHT]
            if "tool_calls" in message:
                yield json.dumps(message["tool_calls"], ensure_ascii=False)

    def with_text(self, change: Callable[[str], str]) -> "Example":
        """The same with `change` applied to every text that the user wrote.

        Roles, tags, tool calls and the descriptions of tools are no such texts; the white space between two pieces
        stays, since it says where a prompt ends.
        """
        last = len(self.pieces) - 1
        alone = not self.sequences and self.listing is None
        return replace(
            self,
            pieces=tuple(
                Piece(_change(piece.text, change, start=alone and index == 0, end=index == last), piece.learned)
                for index, piece in enumerate(self.pieces)
            ),
            messages=tuple(_changed(message, change) for message in self.messages),
            sequences=tuple(change(text) for text in self.sequences),
            listing=None if self.listing is None else self.listing.with_text(change),
            words=tuple(change(word) for word in self.words),
            parts=tuple(tuple(change(text) for text in part) for part in self.parts),
        )

    def digest(self) -> int:
        """A number of 64 bits that depends on what the row says, not on where it stands."""
        texts = (*self.texts(), *self.tags, *(image.digest() for image in self.images))
        content = "".join([f"\0{len(text)}\0{text}" for text in texts])
        return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest())


def question_and_answer(question: str | None, answer: str | None) -> tuple[Piece, ...]:
    """What stands below a listing: a blank line, the question, and on a line of its own the learned answer."""
    asked = Piece("\n" if question is None else f"\n{question}\n", learned=False)
    return (asked,) if answer is None else (asked, Piece(answer, learned=True))


def _change(text: str, change: Callable[[str], str], *, start: bool, end: bool) -> str:
    """The changed text; white space is changed where the whole text starts or ends with it, else kept."""
    bare = text if start else text.lstrip(SEAM)
    before = text[: len(text) - len(bare)]
    inside = bare if end else bare.rstrip(SEAM)
    return before + change(inside) + bare[len(inside) :]


def _changed(message: Mapping[str, Any], change: Callable[[str], str]) -> Mapping[str, Any]:
    changed = {name: change(message[name]) for name in ("content", THOUGHT) if message.get(name)}
    return {**message, **changed}
