"""Rows that become tokens while the model trains, for sets larger than the disk.

The sources take turns, row by row, until each is at its end: that is one pass. Every `data.shuffle_buffer` kept
examples make a block, which the seed, the pass and the number of the block put in order. One process reads, whatever
the number of ranks; a thread of it is one block ahead, so that memory holds two blocks.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from trainer.config.data import Source
from trainer.config.recipe import Recipe
from trainer.data.clean import Cleaner
from trainer.data.encode import Encoder
from trainer.data.encoded import Encoded
from trainer.data.epochs import arranged, times_due
from trainer.data.example import Example
from trainer.data.files import File, parts
from trainer.data.fit import fit
from trainer.data.formats import parse
from trainer.data.images import check
from trainer.data.packing import Layout
from trainer.data.row import BadRow, LeftOut, Row
from trainer.data.sources import read, train_sources
from trainer.errors import DataError, Problem

CHUNK_ROWS = 256
CHUNK_CHARACTERS = 1_000_000
"""Rows are tokenised together until there are so many of either."""


@dataclass(frozen=True)
class Position:
    """Where a stream goes on: the beginning of a block, and how much of the block steps took."""

    epoch: int = 0
    """Passes that are done."""
    block: int = 0
    """Blocks of this pass before this one."""
    rows: int = 0
    """Rows of this pass that were read before this block, those left out too."""
    bad: int = 0
    """Wrong rows among them."""
    told: int = 0
    """Rows left out before this block that the quarantine tells of; it tells those of the first pass."""
    taken: int = 0
    """Examples of this block that steps took."""
    size: int = 0
    """Bytes of the files together; what has another size is not what the other numbers count."""


@dataclass(frozen=True)
class _Block:
    """Examples in the order in which they are seen."""

    examples: list[Encoded]
    start: Position
    end: Position
    """The beginning of the next one."""


@dataclass
class _Read:
    """What becomes of one row."""

    source: Source
    copies: int
    """How often this pass sees it."""
    left_out: LeftOut | None = None
    examples: list[Encoded] = field(default_factory=list)


class Stream:
    """The training rows of a recipe, step by step from a position on."""

    def __init__(self, recipe: Recipe, encoder: Encoder, quarantine: Path, start: Position, *, told: int = 0) -> None:
        """`quarantine` is the file that tells which rows are left out; its first `told` lines are of other rows."""
        self._stopped = threading.Event()
        self._blocks = _Reader(recipe, encoder, quarantine, self._stopped).blocks(start, told)
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._coming = self._thread.submit(next, self._blocks)
        self._block: _Block | None = None
        self._taken = start.taken

    def step(self, layout: Layout) -> tuple[list[Encoded], dict[str, int]]:
        """The examples of the next step, and where the one after it begins; DataError where rows are wrong.

        No step crosses the end of a pass.
        """
        examples, tokens = list[Encoded](), 0
        while True:
            block = self._block = self._block or self._next_block()
            while self._taken < len(block.examples):
                example = block.examples[self._taken]
                if examples and _is_full(layout, len(examples), tokens + len(example.tokens)):
                    return examples, asdict(replace(block.start, taken=self._taken))
                examples.append(example)
                tokens += len(example.tokens)
                self._taken += 1
            self._block, self._taken = None, 0
            if examples and (block.end.epoch > block.start.epoch or _is_full(layout, len(examples), tokens + 1)):
                return examples, asdict(block.end)

    def close(self) -> None:
        """Ends the thread, in the middle of a block."""
        self._stopped.set()
        self._thread.shutdown(cancel_futures=True)

    def _next_block(self) -> _Block:
        block = self._coming.result()
        self._coming = self._thread.submit(next, self._blocks)
        return block


class _Reader:
    """What the thread does."""

    def __init__(self, recipe: Recipe, encoder: Encoder, quarantine: Path, stopped: threading.Event) -> None:
        self.data, self.seed = recipe.data, recipe.train.seed
        self.encoder, self.quarantine, self.stopped = encoder, quarantine, stopped
        self.sources = train_sources(recipe.data)
        self.clean = Cleaner(recipe.data.clean)

    def blocks(self, start: Position, told: int) -> Iterator[_Block]:
        """Blocks without end, pass after pass."""
        _keep_lines(self.quarantine, told + start.told)
        size = sum(_size(source) for _, source in self.sources)
        if start.size not in (0, size):
            message = (
                f"its files have {size:,} bytes, and had {start.size:,} when the run was begun, so the place in them"
            )
            raise DataError([Problem("data.train", f"{message} is lost; put them back, or name another output")])
        start = replace(start, size=size)
        empty, most = 0, max(source.weight for _, source in self.sources)
        while not self.stopped.is_set():
            kept = start.rows > 0
            for block in self._blocks_of_pass(start):
                kept = kept or bool(block.examples)
                start = block.end
                yield block
            empty = 0 if kept else empty + 1
            # So many passes see each row of the source with this weight.
            if empty * most >= 1:
                raise DataError([Problem("data.train", "none of the rows of the stream holds anything to learn")])

    def _blocks_of_pass(self, start: Position) -> Iterator[_Block]:
        here, held = start, list[_Read]()
        count = 0
        for row in self._rows(start):
            here = self._after(here, row)
            held.append(row)
            count += len(row.examples)
            if count >= self.data.shuffle_buffer:
                end = replace(here, block=start.block + 1, taken=0)
                yield self._block(held, start, end)
                start, here, held, count = end, end, [], 0
        yield self._block(held, start, Position(epoch=start.epoch + 1, told=here.told, size=here.size))

    def _block(self, rows: list[_Read], start: Position, end: Position) -> _Block:
        examples = [example for row in rows for example in row.examples]
        copies = np.array([row.copies for row in rows for _ in row.examples], dtype=np.int64)
        order = np.arange(len(examples))
        if self.data.shuffle:
            order = np.random.default_rng([self.seed, start.epoch, start.block]).permutation(order)
        order = arranged(copies, order, shuffled=self.data.shuffle)
        return _Block([examples[place] for place in order], start, end)

    def _after(self, here: Position, row: _Read) -> Position:
        """The position after a row; DataError where it is one wrong row too many."""
        left_out = row.left_out
        if left_out is None:
            return replace(here, rows=here.rows + 1)
        wrong, told = left_out.reason == "wrong", here.told
        if wrong and here.bad == self.data.max_bad_rows:
            raise DataError([BadRow.at(left_out.source, left_out.line, left_out.why)])
        if here.epoch == 0:
            with self.quarantine.open("a", encoding="utf-8") as file:
                file.write(left_out.to_line())
            told += 1
        return replace(here, rows=here.rows + 1, bad=here.bad + wrong, told=told)

    def _rows(self, start: Position) -> Iterator[_Read]:
        """What becomes of each row of a pass from a position on."""
        chunk, waiting, characters = list[_Read](), list[tuple[_Read, Example]](), 0
        for number, line, row in islice(_in_turns(self.sources), start.rows, None):
            if self.stopped.is_set():
                return
            made, example = self._prepared(number, line, row, start.epoch)
            chunk.append(made)
            if example is not None:
                waiting.append((made, example))
                characters += sum(len(text) for text in example.texts())
            if len(chunk) == CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
                self._tokenise(waiting)
                yield from chunk
                chunk, waiting, characters = [], [], 0
        self._tokenise(waiting)
        yield from chunk

    def _prepared(self, number: int, line: int, row: Row | BadRow, epoch: int) -> tuple[_Read, Example | None]:
        """One row before it is tokenised; no example where it is left out or not due in this pass."""
        key, source = self.sources[number]
        made = _Read(source, times_due(line, source.weight, self.seed, epoch))
        example = parse(row, source, key) if isinstance(row, Row) else row
        if isinstance(example, Problem):
            made.left_out = LeftOut("wrong", row.source, row.line, example.message)
            return made, None
        cleaned = self.clean(example)
        if isinstance(cleaned, str):
            made.left_out = LeftOut("cleaned away", row.source, row.line, cleaned)
            return made, None
        if (unseen := check(cleaned)) is not None:
            if not isinstance(unseen, BadRow):
                raise DataError([unseen])
            made.left_out = LeftOut("wrong", row.source, row.line, unseen.message)
            return made, None
        return made, cleaned if made.copies else None

    def _tokenise(self, waiting: list[tuple[_Read, Example]]) -> None:
        encoded = self.encoder.encode([example for _, example in waiting])
        for (made, example), row in zip(waiting, encoded, strict=True):
            fitted = row if isinstance(row, Problem) else fit(self.data, made.source.format, row, example)
            if isinstance(fitted, LeftOut):
                made.left_out = fitted
            elif isinstance(fitted, Problem):
                made.left_out = LeftOut("wrong", example.source, example.line, fitted.message)
            else:
                # A copy, because these are parts of larger arrays, which a block need not hold.
                made.examples = [replace(one, tokens=one.tokens.copy(), learned=one.learned.copy()) for one in fitted]


def _is_full(layout: Layout, examples: int, tokens: int) -> bool:
    """Whether a step of so many examples has no room for one more, with which it would have so many tokens."""
    if layout.global_ is not None:
        return examples >= layout.global_
    assert layout.global_tokens is not None, "a step is filled by examples or by tokens"
    return tokens > layout.global_tokens


def _in_turns(sources: list[tuple[str, Source]]) -> Iterator[tuple[int, int, Row | BadRow]]:
    """The number of a source, the number of a row in it, and the row: one of each source in turn, to the last row.

    DataError where a source is wrong as a whole.
    """
    readers = {number: enumerate(read(source)) for number, (_, source) in enumerate(sources)}
    while readers:
        for number, reader in list(readers.items()):
            line, row = next(reader, (0, None))
            if row is None:
                del readers[number]
            elif isinstance(row, Problem) and not isinstance(row, BadRow):
                raise DataError([row])
            else:
                yield number, line, row


def _size(source: Source) -> int:
    """Bytes of the files of a source; sets of the hub have their revision."""
    return sum(part.path.stat().st_size for part in parts(source) if isinstance(part, File))


def _keep_lines(path: Path, count: int) -> None:
    """Leaves the first lines of a file; what was read after a checkpoint is read and told again."""
    kept = []
    if count:
        with path.open(encoding="utf-8") as file:
            kept = list(islice(file, count))
    path.unlink(missing_ok=True)
    if kept:
        path.write_text("".join(kept), encoding="utf-8")
