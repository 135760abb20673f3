"""From tokenised rows to the micro-batches of each optimizer step, for every rank alike.

An optimizer step takes `batch.global` examples, whatever the layout. Every rank computes equally many micro-batches; a
spare one holds no example and counts nothing, but runs, because the hooks of DDP and ZeRO wait for all ranks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from trainer.data.corpus import Split

IGNORED = -100
"""The target of a position where nothing is learned."""


@dataclass(frozen=True)
class Layout:
    """How the examples of a step become micro-batches."""

    global_: int
    """Examples an optimizer step."""
    micro: int
    """Examples of a padded micro-batch."""
    packing: bool
    micro_tokens: int
    """Tokens of a packed micro-batch."""
    pad: int
    """The token that fills a padded row."""


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

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=True) for name in ("input_ids", "position_ids", "targets")
        }
        mask = None if self.attention_mask is None else self.attention_mask.to(device, non_blocking=True)
        return replace(self, attention_mask=mask, **moved)


@dataclass(frozen=True)
class Window:
    """What one rank computes for one optimizer step."""

    batches: tuple[Batch, ...]
    examples: int
    """Examples of the step over all ranks."""


class Windows:
    """The optimizer steps of a split, by number; the position in the data is that number alone."""

    def __init__(self, split: Split, layout: Layout, *, rank: int, ranks: int, seed: int | None) -> None:
        """`seed` orders each epoch anew; None keeps the order of the rows."""
        self.split, self.layout, self.rank, self.ranks, self.seed = split, layout, rank, ranks, seed
        self._order: tuple[int, np.ndarray] | None = None

    @property
    def per_epoch(self) -> int:
        """Optimizer steps of one pass; the last may hold fewer examples."""
        return -(-len(self.split) // self.layout.global_)

    def examples(self, step: int) -> list[int]:
        """The rows of optimizer step `step` (from 0, over all epochs), in order."""
        epoch, index = divmod(step, self.per_epoch)
        start = index * self.layout.global_
        return [int(row) for row in self._epoch(epoch)[start : start + self.layout.global_]]

    def window(self, step: int) -> Window:
        """What this rank computes for step `step`."""
        rows = self.examples(step)
        layout = pack if self.layout.packing else pad
        groups = layout(rows, self.split.lengths, self.layout, self.ranks)
        mine = groups[self.rank :: self.ranks]
        return Window(tuple(self._batch(group) for group in mine), len(rows))

    def __iter__(self) -> Iterator[Window]:
        """One pass."""
        return (self.window(step) for step in range(self.per_epoch))

    def _epoch(self, epoch: int) -> np.ndarray:
        if self._order is None or self._order[0] != epoch:
            rows = np.arange(len(self.split))
            if self.seed is not None:
                rows = np.random.default_rng([self.seed, epoch]).permutation(rows)
            self._order = (epoch, rows)
        return self._order[1]

    def _batch(self, rows: Sequence[int]) -> Batch:
        if not rows:
            return _spare(self.layout)
        examples = [
            (self.split.tokens(row), targets_of(self.split.tokens(row), self.split.learned(row))) for row in rows
        ]
        return _flat(examples) if self.layout.packing else _padded(examples, self.layout.pad)


def pack(rows: list[int], lengths: np.ndarray, layout: Layout, ranks: int) -> list[list[int]]:
    """Groups of at most `micro_tokens` tokens, as many for each rank, as equal in tokens as the examples allow.

    The longest example goes first, each to the group with the fewest tokens (longest processing time, Graham 1969).
    """
    assert max(lengths[row] for row in rows) <= layout.micro_tokens, "an example is longer than a row"
    total = sum(int(lengths[row]) for row in rows)
    groups = max(1, -(-total // layout.micro_tokens))
    while True:
        groups = -(-groups // ranks) * ranks
        held: list[list[int]] = [[] for _ in range(groups)]
        tokens = [0] * groups
        for row in sorted(rows, key=lambda row: (-int(lengths[row]), row)):
            smallest = min(range(groups), key=tokens.__getitem__)
            held[smallest].append(row)
            tokens[smallest] += int(lengths[row])
        if max(tokens) <= layout.micro_tokens:
            return held
        groups += 1


def pad(rows: list[int], lengths: np.ndarray, layout: Layout, ranks: int) -> list[list[int]]:
    """Groups of at most `micro` examples in the order of the rows, as many for each rank."""
    held = [rows[start : start + layout.micro] for start in range(0, len(rows), layout.micro)]
    spare = -len(held) % ranks
    return held + [[] for _ in range(spare)]


def targets_of(tokens: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """The token that each position predicts [S]; IGNORED where the next one is not learned, and at the end."""
    targets = np.full(len(tokens), IGNORED, dtype=np.int64)
    targets[:-1] = np.where(learned[1:], tokens[1:], IGNORED)
    return targets


def _flat(examples: list[tuple[np.ndarray, np.ndarray]]) -> Batch:
    """The examples end to end in one row."""
    segments = tuple(len(tokens) for tokens, _ in examples)
    return Batch(
        input_ids=torch.from_numpy(np.concatenate([tokens for tokens, _ in examples]).astype(np.int64))[None],
        position_ids=torch.from_numpy(np.concatenate([np.arange(length) for length in segments]))[None],
        targets=torch.from_numpy(np.concatenate([targets for _, targets in examples]))[None],
        attention_mask=None,
        segments=segments,
        tokens=sum(segments),
    )


def _padded(examples: list[tuple[np.ndarray, np.ndarray]], fill: int) -> Batch:
    """One row an example, filled up on the right."""
    longest = max(len(tokens) for tokens, _ in examples)
    shape = (len(examples), longest)
    input_ids = torch.full(shape, fill, dtype=torch.long)
    targets = torch.full(shape, IGNORED, dtype=torch.long)
    mask = torch.zeros(shape, dtype=torch.long)
    for row, (tokens, wanted) in enumerate(examples):
        input_ids[row, : len(tokens)] = torch.from_numpy(tokens.astype(np.int64))
        targets[row, : len(tokens)] = torch.from_numpy(wanted)
        mask[row, : len(tokens)] = 1
    positions = torch.arange(longest).expand(shape).contiguous()
    return Batch(input_ids, positions, targets, mask, None, sum(len(tokens) for tokens, _ in examples))


def _spare(layout: Layout) -> Batch:
    """One token that belongs to no example and predicts nothing."""
    empty = np.array([layout.pad]), np.array([IGNORED], dtype=np.int64)
    batch = _flat([empty]) if layout.packing else _padded([empty], layout.pad)
    return replace(batch, tokens=0)
