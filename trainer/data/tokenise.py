"""Tokenises the rows of all sources into stores, in chunks, and says of each row left out why."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np

from trainer.config.data import Source
from trainer.config.recipe import Recipe
from trainer.data.encode import Encoded, Encoder
from trainer.data.findings import Findings
from trainer.data.formats import Example, examples
from trainer.data.split import Store, count_targets
from trainer.errors import Problem

CHUNK_ROWS = 1000
CHUNK_CHARACTERS = 4_000_000
"""A chunk of rows is full at either; what the tokenizer returns takes about 100 bytes a token."""


@dataclass
class Kept:
    """What was stored of one split, row by row."""

    lengths: list[int]
    targets: list[int]
    digests: list[int] = field(default_factory=list)


@dataclass
class _Seen:
    """Why rows of one split were left out."""

    too_long: list[int] = field(default_factory=list)
    """Tokens of dropped rows."""
    cut_off: list[int] = field(default_factory=list)
    """Where the learned tokens of rows begin that max_length cut them off from."""
    unlearned: int = 0
    """Rows without any learned token."""


class Tokeniser:
    """All rows of a recipe; counts over both splits."""

    def __init__(self, recipe: Recipe, encoder: Encoder, folder: Path) -> None:
        self.data, self.seed = recipe.data, recipe.train.seed
        self.encoder, self.folder = encoder, folder
        self.findings = Findings()
        self.cut = 0
        """Rows that max_length shortened and that are kept."""
        self.dropped = 0
        """Rows left out."""
        self._quarantine = (folder / "quarantine.jsonl").open("w", encoding="utf-8")

    def __enter__(self) -> "Tokeniser":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._quarantine.close()

    def add(self, name: str, sources: Sequence[tuple[str, Source]]) -> Kept:
        """The rows of one split, into the store `name`; what is wrong with rows is kept for `raise_if_wrong`."""
        seen = _Seen()
        with Store(self.folder, name) as store:
            kept = Kept(store.lengths, store.targets)
            for key, source in sources:
                for chunk in _chunks(self._sound(key, source)):
                    self._add_chunk(source, chunk, store, kept, seen)
            store.finish()
        if len(store) == 0 and not self.findings:
            self.findings.add(name, _nothing_left(f"data.{name}", self.data.max_length, seen))
        return kept

    def raise_if_wrong(self) -> None:
        """DataError with what is wrong with the rows of all splits."""
        self.findings.raise_if_any()

    def _sound(self, key: str, source: Source) -> Iterator[Example]:
        """The rows that say something; the others go to the findings."""
        for seen, example in enumerate(examples(key, source), start=1):
            if isinstance(example, Problem):
                self.findings.add(source.path, example)
            elif not self.findings:
                yield example
            if self.findings.enough(source.path, seen):
                return

    def _add_chunk(self, source: Source, chunk: list[Example], store: Store, kept: Kept, seen: _Seen) -> None:
        for example, encoded in zip(chunk, self.encoder.encode(chunk), strict=True):
            if isinstance(encoded, Problem):
                self.findings.add(source.path, encoded)
            elif (row := self._fit(example, encoded, seen)) is not None:
                store.add(row.tokens, row.learned)
                kept.digests.append(example.digest(self.seed))

    def _fit(self, example: Example, row: Encoded, seen: _Seen) -> Encoded | None:
        """The row within max_length; None where it is left out."""
        room, length = self.data.max_length, len(row.tokens)
        if count_targets(row.learned) == 0:
            seen.unlearned += 1
            self._leave_out(example, "holds nothing to learn")
            return None
        if length <= room:
            return row
        if self.data.too_long == "error":
            message = f"has {length:,} tokens, more than data.max_length: {room}; raise it, or set data.too_long: cut"
            self.findings.add(example.source, Problem(example.where, message))
            return None
        if self.data.too_long == "drop":
            seen.too_long.append(length)
            self._leave_out(example, f"has {length} tokens, more than data.max_length: {room}")
            return None
        if count_targets(row.learned[:room]) == 0:
            begins = 1 + int(np.argmax(row.learned[1:]))
            seen.cut_off.append(begins)
            self._leave_out(
                example, f"what is learned begins after {begins} tokens, and data.max_length: {room} cuts it off"
            )
            return None
        self.cut += 1
        return Encoded(row.tokens[:room], row.learned[:room])

    def _leave_out(self, example: Example, why: str) -> None:
        self.dropped += 1
        line = {"source": example.source, "line": example.line, "why": why}
        self._quarantine.write(json.dumps(line, ensure_ascii=False) + "\n")


def _chunks(rows: Iterable[Example]) -> Iterator[list[Example]]:
    chunk: list[Example] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        characters += sum(len(text) for text in row.texts())
        if len(chunk) == CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _nothing_left(key: str, room: int, seen: _Seen) -> Problem:
    """Why no row of a split is left."""
    if seen.too_long:
        lengths = f"{min(seen.too_long):,} to {max(seen.too_long):,}"
        message = (
            f"all rows are longer than {room} tokens ({lengths}) and left out; raise it, or set data.too_long: cut"
        )
        return Problem("data.max_length", f"{message} ({key})")
    if seen.cut_off:
        begins = f"{min(seen.cut_off):,} to {max(seen.cut_off):,}"
        message = (
            f"{room} tokens leave nothing to learn in any row of {key}: what is learned begins after {begins} tokens"
        )
        return Problem("data.max_length", f"{message}; raise it")
    message = (
        f"none of its {seen.unlearned:,} rows holds anything to learn; check the format, and that answers are not empty"
    )
    return Problem(key, message)
