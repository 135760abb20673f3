"""From tokenised rows to the micro-batches of each optimizer step, for every rank alike.

An optimizer step takes `batch.global` examples, or as many as `batch.global_tokens` holds, whatever the layout. Every
rank computes equally many micro-batches; a spare one holds no example and counts nothing, but runs, because the hooks
of DDP and ZeRO wait for all ranks.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch

from trainer import ranks
from trainer.config.train import Train
from trainer.data.encoded import Encoded, Learned
from trainer.data.epochs import Epochs, Numbers, weighted
from trainer.data.packing import Layout, share_out
from trainer.data.rank_zero import on_rank_zero
from trainer.data.split import Split
from trainer.data.stream import Stream

IGNORED = -100
"""The target of a position where nothing is learned."""
_TENSORS = ("input_ids", "position_ids", "targets")


@dataclass(frozen=True)
class Batch:
    """One micro-batch: B rows of S tokens; packed rows have B = 1."""

    input_ids: torch.Tensor
    """Tokens [B, S]."""
    position_ids: torch.Tensor
    """Positions [B, S], from 0 in each example."""
    targets: torch.Tensor
    """The token to predict at each position [B, S]; IGNORED where nothing is learned."""
    attention_mask: torch.Tensor | None
    """1 for a token, 0 for padding [B, S]; None where rows are packed."""
    segments: tuple[int, ...] | None
    """Lengths of the examples that stand end to end; None where rows are padded."""
    tokens: int
    """Tokens of examples, padding left out."""
    token_type_ids: torch.Tensor | None = None
    """Which of several texts a token belongs to [B, S]; None where no row has several."""
    labels: torch.Tensor | None = None
    """What a classifier learns of each example: int64 [B], or float32 [B] or [B, L]; of each token: int64 [B, S]; None
    where the next token is learned.

    What is not learned, such as the example of a spare batch, has IGNORED, or NaN.
    """
    more: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """What a task puts beside these, by name; of B examples."""
    rows: tuple[int, ...] = ()
    """The number of each example in its split; none in a spare batch."""

    @property
    def examples(self) -> int:
        """Examples, B where rows are padded; the one of a spare batch counts."""
        return len(self.input_ids) if self.segments is None else len(self.segments)

    def beginning(self, examples: int, tokens: int | None = None) -> "Batch":
        """The first examples alone, each cut to so many tokens."""
        more = {name: values[:examples] for name, values in self.more.items()}
        return replace(self._beginning(examples, tokens), more=more, rows=self.rows[:examples])

    def _beginning(self, examples: int, tokens: int | None) -> "Batch":
        columns = {name: getattr(self, name) for name in (*_TENSORS, "token_type_ids")}
        there = {name: column for name, column in columns.items() if column is not None}
        labels = None if self.labels is None else self.labels[:examples]
        if self.segments is None:
            assert self.attention_mask is not None, "a padded batch has a mask"
            mask = self.attention_mask[:examples, :tokens]
            cut = {name: column[:examples, :tokens] for name, column in there.items()}
            return replace(self, **cut, attention_mask=mask, tokens=int(mask.sum()), labels=labels)
        starts = np.cumsum(self.segments) - self.segments
        lengths = tuple(min(length, tokens or length) for length in self.segments[:examples])
        kept = np.concatenate(
            [np.arange(start, start + length) for start, length in zip(starts, lengths, strict=False)]
        )
        cut = {name: column[:, torch.from_numpy(kept)] for name, column in there.items()}
        return replace(self, **cut, segments=lengths, tokens=min(self.tokens, len(kept)))

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in _TENSORS}
        for name in ("attention_mask", "token_type_ids", "labels"):
            values = getattr(self, name)
            moved[name] = None if values is None else values.to(device, non_blocking=True)
        more = {name: values.to(device, non_blocking=True) for name, values in self.more.items()}
        return replace(self, **moved, more=more)


class Collate(Protocol):
    """How a task puts examples together."""

    def __call__(self, rows: Sequence[int], examples: Sequence[Encoded], layout: Layout, epoch: int) -> Batch:
        """The micro-batch of some examples of a split, whose numbers there are `rows`; of none, a spare one."""


@dataclass(frozen=True)
class Window:
    """What one rank computes for one optimizer step."""

    batches: tuple[Batch, ...]
    examples: int
    """Examples of the step over all ranks."""
    epoch: float
    """Passes over the rows that are done after it."""
    position: dict[str, int] | None = None
    """Where a stream goes on after it; None where the number of the step says that."""


class Steps(Protocol):
    """The optimizer steps of a run."""

    def window(self, step: int) -> Window:
        """What this rank computes for step `step` (from 0, over all epochs)."""

    def steps_of_run(self, train: Train) -> tuple[int, ...] | None:
        """Optimizer steps of each epoch, as many epochs as the run may need; None where nobody knows."""

    def close(self) -> None:
        """Ends what is made ahead."""


class Windows:
    """The optimizer steps of a split, by number; the position in the data is that number alone."""

    def __init__(
        self,
        split: Split,
        layout: Layout,
        *,
        rank: int,
        ranks: int,
        seed: int | None,
        weights: Sequence[float] = (),
        collate: Collate | None = None,
    ) -> None:
        """`seed` orders each epoch anew, None keeps the order of the rows; `weights` are those of the sources.

        Without `collate` the next token is learned.
        """
        self.split, self.layout, self.rank, self.ranks = split, layout, rank, ranks
        self.collate = collate or next_tokens
        members = weighted(weights, split.source) if any(weight != 1 for weight in weights) else ()
        self.epochs = Epochs(split.lengths, layout, seed, members)

    def window(self, step: int) -> Window:
        """What this rank computes for step `step`."""
        rows, epoch = self.epochs.rows(step)
        mine = share_out(rows, self.split.lengths, self.layout, self.ranks)[self.rank]
        return Window(tuple(self._batch(group, math.ceil(epoch) - 1) for group in mine), len(rows), epoch)

    def asked(self, rows: Sequence[int]) -> Batch:
        """Some examples in padded rows, for the model to answer."""
        return self._batch(rows, 0, replace(self.layout, packing=False))

    def _batch(self, rows: Sequence[int], epoch: int, layout: Layout | None = None) -> Batch:
        examples = [self.split.example(row) for row in rows]
        return replace(self.collate(rows, examples, layout or self.layout, epoch), rows=tuple(rows))

    def __iter__(self) -> Iterator[Window]:
        """One pass; a thread makes the next window while one is computed."""
        steps = self.epochs.steps(0)
        with ThreadPoolExecutor(max_workers=1) as pool:
            coming = pool.submit(self.window, 0) if steps else None
            for step in range(1, steps + 1):
                assert coming is not None, "there is one more"
                window = coming.result()
                coming = pool.submit(self.window, step) if step < steps else None
                yield window


class Ahead:
    """The same steps; a thread makes the next one while one is computed."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._coming: tuple[int, Future[Window]] | None = None

    def window(self, step: int) -> Window:
        """What this rank computes for step `step`."""
        wanted = self._coming[1] if self._coming and self._coming[0] == step else self._make(step)
        window = wanted.result()
        self._coming = step + 1, self._make(step + 1)
        return window

    def steps_of_run(self, train: Train) -> tuple[int, ...]:
        """Optimizer steps of each epoch, as many epochs as the run may need."""
        return self.windows.epochs.steps_of_run(train)

    def close(self) -> None:
        """Ends the thread."""
        self._pool.shutdown(cancel_futures=True)

    def _make(self, step: int) -> Future[Window]:
        return self._pool.submit(self.windows.window, step)


class Streamed:
    """The optimizer steps of a stream, one after the other: rank 0 reads the rows and shares them with the others."""

    def __init__(self, stream: Stream | None, layout: Layout, *, rank: int, ranks: int) -> None:
        """`stream` is rank 0's; None on the others."""
        self.stream, self.layout, self.rank, self.ranks = stream, layout, rank, ranks
        self._last: tuple[int, Window] | None = None

    def window(self, step: int) -> Window:
        """What this rank computes for the next step, or once more for the last one; all ranks call it."""
        if self._last is None or self._last[0] != step:
            assert self._last is None or self._last[0] == step - 1, "a stream has no way back"
            self._last = step, self._read()
        return self._last[1]

    def steps_of_run(self, train: Train) -> None:
        """Nobody knows how long a pass is before it was read."""

    def close(self) -> None:
        """Ends the reading."""
        if self.stream is not None:
            self.stream.close()

    def _read(self) -> Window:
        stream = self.stream
        rows, position = ranks.broadcast(on_rank_zero(lambda: stream.step(self.layout) if stream else None))
        lengths = np.array([len(row.tokens) for row in rows])
        mine = share_out(list(range(len(rows))), lengths, self.layout, self.ranks)[self.rank]
        held = ([rows[row] for row in group] for group in mine)
        batches = tuple(batch_of(group, self.layout) for group in held)
        return Window(batches, len(rows), float(position["epoch"]), position)


def next_tokens(rows: Sequence[int], examples: Sequence[Encoded], layout: Layout, epoch: int) -> Batch:
    """A micro-batch that learns the next token, which depends on nothing but the examples."""
    return batch_of(examples, layout)


def batch_of(rows: Sequence[Encoded], layout: Layout) -> Batch:
    """The micro-batch of these rows; a spare one where there are none: one token that predicts nothing."""
    if not rows:
        token = layout.pad if layout.spare is None else layout.spare
        spare = Encoded(np.array([token], dtype=np.int32), np.zeros(1, dtype=np.bool_))
        return replace(batch_of([spare], layout), tokens=0)
    segments = tuple(len(row.tokens) for row in rows)
    tokens = np.concatenate([row.tokens for row in rows]).astype(np.int64)
    targets = targets_of(tokens, np.concatenate([row.learned for row in rows]), segments)
    batch = _flat(tokens, targets, segments) if layout.packing else _padded(tokens, targets, segments, layout.pad)
    if all(row.types is None for row in rows):
        return batch
    # A row of one text is all of the first kind.
    types = np.concatenate([np.zeros(len(row.tokens), np.int8) if row.types is None else row.types for row in rows])
    kinds = torch.zeros_like(batch.input_ids)
    kinds[... if batch.attention_mask is None else batch.attention_mask.bool()] = torch.from_numpy(types).long()
    return replace(batch, token_type_ids=kinds)


def targets_of(tokens: Numbers, learned: Learned, segments: Sequence[int]) -> Numbers:
    """The token that each position predicts [S], of examples that stand end to end; `segments` are their lengths.

    IGNORED where the next one is not learned, and at the end of each example.
    """
    targets = np.full(len(tokens), IGNORED, dtype=np.int64)
    targets[:-1] = np.where(learned[1:], tokens[1:], IGNORED)
    targets[np.cumsum(segments) - 1] = IGNORED
    return targets


def _flat(tokens: Numbers, targets: Numbers, segments: tuple[int, ...]) -> Batch:
    """The examples end to end in one row."""
    starts = np.cumsum(segments) - segments
    positions = np.arange(len(tokens)) - np.repeat(starts, segments)
    rows = [torch.from_numpy(values)[None] for values in (tokens, positions, targets)]
    return Batch(rows[0], rows[1], rows[2], attention_mask=None, segments=segments, tokens=len(tokens))


def _padded(tokens: Numbers, targets: Numbers, segments: tuple[int, ...], fill: int) -> Batch:
    """One row an example, filled up on the right."""
    places = np.arange(max(segments))
    mask = places < np.array(segments)[:, None]
    input_ids, wanted = np.full(mask.shape, fill), np.full(mask.shape, IGNORED)
    input_ids[mask], wanted[mask] = tokens, targets
    positions = np.tile(places, (len(segments), 1))
    rows = [torch.from_numpy(values) for values in (input_ids, positions, wanted, mask.astype(np.int64))]
    return Batch(rows[0], rows[1], rows[2], attention_mask=rows[3], segments=None, tokens=len(tokens))
