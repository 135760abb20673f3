"""Which rows each epoch sees, how often and in which order: a pure function of the seed and the epoch.

A source of weight w lets an epoch see each of its rows w times. Where w is no whole number, a row is due once more in
some epochs than in others, so that after any number E of epochs it was seen w x E times, rounded up or down.
"""

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from trainer.config.train import Train
from trainer.data.packing import Layout, step_starts

Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]
Members = Sequence[tuple[Numbers, float]]
"""Numbers of rows, and how often an epoch sees each of them."""

_TURN = 2**32
_GOLDEN = 2654435769
"""2**32 over the golden ratio: its multiples fall evenly into any part of a turn (Weyl 1916)."""


def weighted(weights: Sequence[float], sources: Numbers) -> Members:
    """The rows of each source whose weight is not 1, from the weights by source and the source of each row [N]."""
    return [(np.flatnonzero(sources == number), weight) for number, weight in enumerate(weights) if weight != 1]


def times_due(rows: Any, weight: float, seed: int, epoch: int) -> Any:
    """How often an epoch sees rows of these numbers, one number or an array [N], from a source of this weight.

    Row r has a place of its own in the unit interval; it is due as often as w x epochs passes a whole number beside it.
    """
    place = (rows + seed) * _GOLDEN % _TURN
    (before, first), (after, last) = _passed(weight, epoch), _passed(weight, epoch + 1)
    return after - before + 1 * (place >= last) - 1 * (place >= first)


def arranged(copies: Numbers | None, rows: Numbers, *, shuffled: bool) -> Numbers:
    """The rows in order, each as many times as `copies` says of it; None: once.

    Shuffled, the c copies of a row stand the c-th part of the epoch apart: a step holds one twice only where it is
    longer than the number of rows with c copies. Else the rows are gone through once, then those that are due again.
    """
    if copies is None:
        return rows
    times = copies[rows]
    total = int(times.sum())
    copy = np.arange(total) - np.repeat(np.cumsum(times) - times, times)
    place = copy + np.repeat(np.arange(len(rows)) / max(1, len(rows)), times)
    order = place / np.repeat(times, times) if shuffled else place
    return np.repeat(rows, times)[np.argsort(order, kind="stable")]


class Epochs:
    """The rows of each optimizer step of a split, by number of the step over all epochs; no step crosses an epoch."""

    def __init__(self, lengths: Numbers, layout: Layout, seed: int | None, members: Members = ()) -> None:
        """`lengths` of the rows [N]; `members` are those whose weight is not 1.

        `seed` orders each epoch anew; None keeps the order of the rows.
        """
        self.lengths, self.layout, self.seed, self._members = lengths, layout, seed, members
        self._held: tuple[int, Numbers, Numbers] | None = None
        self._first_steps = [0]

    def steps(self, epoch: int) -> int:
        """Optimizer steps of an epoch; the last may be short."""
        if self.layout.global_ is not None and not self._members:
            return -(-len(self.lengths) // self.layout.global_)
        return len(self._epoch(epoch)[1]) - 1

    def steps_of_run(self, train: Train) -> tuple[int, ...]:
        """Optimizer steps of each epoch, as many epochs as the run may need."""
        counted: list[int] = []
        while len(counted) < train.epochs and (train.max_steps is None or sum(counted) < train.max_steps):
            counted.append(self.steps(len(counted)))
        return tuple(counted)

    def rows(self, step: int) -> tuple[list[int], float]:
        """The rows of a step in order, and the epochs that are done after it."""
        epoch = self._epoch_of(step)
        order, starts = self._epoch(epoch)
        index = step - self._first_steps[epoch]
        rows = order[starts[index] : starts[index + 1]].tolist()
        return rows, epoch + (index + 1) / (len(starts) - 1)

    def _epoch_of(self, step: int) -> int:
        while self._first_steps[-1] <= step:
            self._first_steps.append(self._first_steps[-1] + self.steps(len(self._first_steps) - 1))
        return int(np.searchsorted(self._first_steps, step, side="right")) - 1

    def _epoch(self, epoch: int) -> tuple[Numbers, Numbers]:
        """The order of an epoch, and where each of its steps begins and the last one ends."""
        if self._held is None or self._held[0] != epoch:
            rows = np.arange(len(self.lengths))
            if self.seed is not None:
                rows = np.random.default_rng([self.seed, epoch]).permutation(rows)
            order = arranged(self._copies(epoch), rows, shuffled=self.seed is not None)
            self._held = epoch, order, step_starts(self.lengths[order], self.layout)
        return self._held[1:]

    def _copies(self, epoch: int) -> Numbers | None:
        if not self._members:
            return None
        copies = np.ones(len(self.lengths), dtype=np.int64)
        for members, weight in self._members:
            copies[members] = times_due(members, weight, self.seed or 0, epoch)
        return copies


@functools.lru_cache(maxsize=1024)
def _passed(weight: float, epochs: int) -> tuple[int, int]:
    """The whole numbers up to weight x epochs, and from which place in the turn on the next one is passed too."""
    position = Fraction(str(weight)) * epochs
    whole = position.numerator // position.denominator
    rest = position - whole
    return whole, _TURN - math.floor(rest * _TURN)
