"""What is told of prepared rows: counts, lengths, labels, duplicates and how well they fill batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainer.config.data import Clean
from trainer.data.duplicates import exact_groups, near_groups
from trainer.data.epochs import Epochs
from trainer.data.facts import Facts, Numbers
from trainer.data.labels import labels_of
from trainer.data.packing import Layout, packing_efficiency, padding_waste
from trainer.data.split import Split

BINS = 20
"""Bins of the histogram, about; the last one is open where few rows are much longer."""
LABELS = 50
"""Labels of a column that are listed."""
STEPS = 200
"""Optimizer steps that padding is measured over."""


@dataclass(frozen=True)
class Part:
    """One split: M examples of N rows."""

    split: Split
    facts: Facts
    """Of the rows [N]."""
    row_of: Numbers
    """The row that each example was made of [M]."""

    def kept(self) -> Numbers:
        """Tokens of each row that are left within `data.max_length` [N]."""
        return np.bincount(self.row_of, self.split.lengths, len(self.facts)).astype(np.int64)


@dataclass(frozen=True)
class SplitFacts:
    """Counts of one split."""

    rows: int
    examples: int
    """More than rows where `data.too_long: split` makes several of one."""
    tokens: int
    learned: int
    """Learned tokens that something predicts."""
    learned_share: float
    shortest: int
    median: int
    p95: int
    """Tokens that 95 % of the rows do not exceed, before `data.max_length` applies, as the lengths beside it."""
    longest: int
    cut: int
    """Rows that `data.max_length` shortens."""
    cut_tokens: int
    """Tokens that it takes from them."""


@dataclass(frozen=True)
class Bin:
    """Rows of `first` to `last` tokens, both included."""

    first: int
    last: int
    rows: int
    over: int
    """Those longer than `data.max_length`."""


@dataclass(frozen=True)
class LabelFacts:
    """The labels of a column, the most frequent ones of the training rows first."""

    column: str
    labels: dict[str, dict[str, int]]
    """Label as JSON writes it -> split -> rows; the first LABELS."""
    more: int
    """Labels that are not listed."""
    train: int
    """Labels of the training rows."""


@dataclass(frozen=True)
class DuplicateFacts:
    """Training rows that are like another one, those left out not among them."""

    exact: int
    """Rows that say the same as an earlier one."""
    near: int | None
    """Rows besides that say nearly the same as another one; None where `data.clean` asks for no near duplicates."""


@dataclass(frozen=True)
class BatchFacts:
    """How the first optimizer steps of the training rows are laid out."""

    steps: int
    ranks: int
    packing: bool
    """Whether the recipe packs."""
    waste_padded: float
    """Share of the computed positions that is padding without packing."""
    waste_packed: float
    """The same with packing."""
    packing_efficiency: float
    """Share of the room of packed rows that holds tokens."""


def of_split(part: Part) -> SplitFacts:
    """The counts of a split with at least one row."""
    lengths, kept = np.asarray(part.facts.length), part.kept()
    tokens, learned = int(part.split.lengths.sum()), int(part.split.targets.sum())
    median, p95 = np.quantile(lengths, [0.5, 0.95], method="inverted_cdf")
    return SplitFacts(
        rows=len(part.facts),
        examples=len(part.split),
        tokens=tokens,
        learned=learned,
        learned_share=round(learned / tokens, 4),
        shortest=int(lengths.min()),
        median=int(median),
        p95=int(p95),
        longest=int(lengths.max()),
        cut=int(np.count_nonzero(kept < lengths)),
        cut_tokens=int((lengths - kept).sum()),
    )


def histogram(lengths: Numbers, max_length: int) -> tuple[Bin, ...]:
    """The lengths of rows in bins of equal width; the last one holds what is longer than 99 % of the rows too."""
    longest = int(lengths.max())
    width = _round_width(float(np.quantile(lengths, 0.99)) / BINS)
    count = min(longest // width, BINS) + 1
    edges = [number * width for number in range(count)] + [longest + 1]
    rows, _ = np.histogram(lengths, edges)
    over, _ = np.histogram(lengths[lengths > max_length], edges)
    bins = zip(edges[:-1], edges[1:], rows.tolist(), over.tolist(), strict=True)
    return tuple(Bin(first, max(end - 1, first), in_it, cut) for first, end, in_it, cut in bins)


def _round_width(least: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50, ... that is not less."""
    widths = (first * int(10**power) for power in range(12) for first in (1, 2, 5))
    return next(width for width in widths if width >= least)


def rows_by_source(parts: Mapping[str, Part], names: Mapping[str, Sequence[str]]) -> dict[str, dict[str, int]]:
    """Source -> split -> rows; `names` are those of the sources that a split's rows come from."""
    counts: dict[str, dict[str, int]] = {}
    for split, part in parts.items():
        numbers = np.bincount(part.facts.source, minlength=len(names[split]))
        for name, rows in zip(names[split], numbers.tolist(), strict=True):
            # Two sources may be parts of one file or set, and have its name.
            if rows or split == "train":
                by_split = counts.setdefault(name, {})
                by_split[split] = by_split.get(split, 0) + rows
    return counts


def labels_by_split(column: str, parts: Mapping[str, Part]) -> LabelFacts | None:
    """How often each label stands in each split; None where no training row has the column."""
    counts: dict[str, dict[str, int]] = {}
    for split, part in parts.items():
        if column in part.facts.columns:
            labels = labels_of(part.facts.columns[column])
            for name, rows in zip(labels.names, labels.counts().tolist(), strict=True):
                if rows and name != "null":
                    counts.setdefault(name, {})[split] = rows
    if not any("train" in by_split for by_split in counts.values()):
        return None
    order = sorted(counts, key=lambda name: (-counts[name].get("train", 0), name))
    return LabelFacts(
        column=column,
        labels={name: counts[name] for name in order[:LABELS]},
        more=max(0, len(order) - LABELS),
        train=sum("train" in by_split for by_split in counts.values()),
    )


def duplicates(train: Facts, clean: Clean) -> DuplicateFacts:
    """The training rows that are like others, which are kept."""
    own = np.arange(len(train))
    exact = exact_groups(train.digest) != own
    near = None
    if train.signatures is not None:
        groups = near_groups(train.signatures, clean.similarity)
        near = int(np.count_nonzero((groups != own) & ~exact))
    return DuplicateFacts(int(np.count_nonzero(exact)), near)


def batches(split: Split, epochs: Epochs, layout: Layout, ranks: int) -> BatchFacts:
    """The first steps of the first epoch, laid out both ways."""
    steps = min(STEPS, epochs.steps(0))
    order = np.concatenate([np.array(epochs.rows(step)[0], dtype=np.int64) for step in range(steps)])
    lengths = split.lengths[order]
    padded, packed = replace(layout, packing=False), replace(layout, packing=True)
    return BatchFacts(
        steps=steps,
        ranks=ranks,
        packing=layout.packing,
        waste_padded=round(padding_waste(lengths, padded), 4),
        waste_packed=round(padding_waste(lengths, packed), 4),
        packing_efficiency=round(packing_efficiency(lengths, packed, ranks), 4),
    )
