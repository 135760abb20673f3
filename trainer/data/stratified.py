"""Which whole groups of rows are held out so that each label has its share on both sides."""

import heapq
from dataclasses import dataclass

import numpy as np

from trainer.data.facts import Numbers
from trainer.data.shares import Chosen, fill, shared_out

_STEPS = 1000
"""Changes that a choice is bettered by at most."""
_TRIED = 20
"""Groups that are tried in exchange for another one."""


@dataclass(frozen=True)
class Labelled:
    """G groups of rows in their order of preference, and their labels."""

    sizes: Numbers
    """Rows of each group [G]."""
    group: Numbers
    """The group of each pair of a group and one of its labels [K], sorted."""
    label: Numbers
    """Its label [K]; L labels in an order that does not depend on that of the rows."""
    rows: Numbers
    """Rows of that group with that label [K]."""
    shares: Numbers
    """Rows of each label that are to be held out, as a share has it, float64 [L]."""
    ties: Numbers
    """Which label comes first where nothing else tells, uint64 [L]."""


def choose(labelled: Labelled, wanted: int) -> Chosen | None:
    """Which groups are held out [G]; None where no group can be, because each has the last row of a label."""
    one_each = np.array_equal(labelled.group, np.arange(len(labelled.sizes)))
    if one_each and np.array_equal(labelled.rows, labelled.sizes):
        chosen = _by_label(labelled, wanted)
        if chosen is None or labelled.sizes[chosen].sum() == wanted:
            return chosen
    return _Choice(labelled, wanted).made()


def _by_label(labelled: Labelled, wanted: int) -> Chosen | None:
    """Where each group has one label: `wanted` rows shared out over the labels; of each its first groups."""
    label, sizes = labelled.label, labelled.sizes
    smallest = np.full(len(labelled.shares), np.iinfo(np.int64).max)
    np.minimum.at(smallest, label, sizes)
    # One group of each label stays in training.
    most = np.bincount(label, weights=sizes, minlength=len(smallest)).astype(np.int64) - smallest
    if not np.any(most > 0):
        return None
    shares = shared_out(wanted, labelled.shares, most, labelled.ties)
    chosen = np.zeros(len(sizes), dtype=np.bool_)
    order = np.argsort(label, kind="stable")
    ends = np.cumsum(np.bincount(label, minlength=len(smallest)))
    for share, start, end in zip(shares.tolist(), np.r_[0, ends[:-1]].tolist(), ends.tolist(), strict=True):
        if share:
            chosen[order[start:end]] = fill(sizes[order[start:end]], share)
    return chosen


class _Choice:
    """Iterative stratification (Sechidis et al. 2011) of whole groups, bettered by single changes and exchanges."""

    def __init__(self, labelled: Labelled, wanted: int) -> None:
        from scipy.sparse import csr_array

        groups, labels = len(labelled.sizes), len(labelled.shares)
        self.sizes, self.wanted = labelled.sizes, wanted
        # The last column counts all rows of a group, as if they had one more label.
        values = np.r_[labelled.rows, labelled.sizes].astype(np.float64)
        places = np.r_[labelled.group, np.arange(groups)], np.r_[labelled.label, np.full(groups, labels)]
        self.rows: csr_array = csr_array((values, places), shape=(groups, labels + 1))
        self.has: csr_array = (self.rows > 0).astype(np.int64)
        self.shares = np.r_[labelled.shares, wanted]
        # A row too many hurts a rare label most; all rows together weigh as much as all labels.
        self.weights = np.r_[1 / np.maximum(labelled.shares, 1), labels / wanted]
        self.chosen = np.zeros(groups, dtype=np.bool_)

    def made(self) -> Chosen | None:
        """The choice; None where there is none."""
        self._deal()
        for _ in range(_STEPS):
            if np.all(np.abs(self._gaps()) < 1) or not self._better():
                break
        if not self.chosen.any():
            free = np.flatnonzero(self._movable())
            if len(free) == 0:
                return None
            self.chosen[free[np.argmin(self._change()[free])]] = True
        return self.chosen

    def _deal(self) -> None:
        """Label by label, the one with the fewest rows left first: its share is held out, its other rows stay."""
        columns = self.rows.tocsc()
        left = self.rows.sum(axis=0)
        queue = [(rows, label) for label, rows in enumerate(left.tolist())]
        heapq.heapify(queue)
        undecided = np.ones(len(self.sizes), dtype=np.bool_)
        shares, owed = self.shares.copy(), 0.0
        while queue:
            rows, label = heapq.heappop(queue)
            if rows != left[label]:
                heapq.heappush(queue, (left[label], label))
            if rows != left[label] or rows == 0:
                continue
            column = slice(columns.indptr[label], columns.indptr[label + 1])
            groups, counts = columns.indices[column], columns.data[column]
            stays = np.any(~undecided[groups] & ~self.chosen[groups])
            groups, counts = groups[undecided[groups]], counts[undecided[groups]]
            # What earlier rounding owes to the share of all rows decides which way this one goes.
            whole = np.floor(shares[label])
            wanted = whole + (shares[label] - whole + owed >= 0.5)
            held = groups[_that_fit(counts, wanted, len(groups) - (not stays))]
            owed += self.sizes[groups].sum() * self.wanted / self.sizes.sum() - self.sizes[held].sum()
            self.chosen[held], undecided[groups] = True, False
            left -= self.rows[groups].sum(axis=0)
            shares -= self.rows[held].sum(axis=0)
        # The groups of a label may all have gone with other labels of theirs.
        gone = (self.has.T @ ~self.chosen == 0) & (np.diff(columns.indptr) > 0)
        self.chosen[columns.indices[columns.indptr[:-1][gone]]] = False

    def _better(self) -> bool:
        """Makes the best single change, or an exchange; False where none helps."""
        change = np.where(self._movable(), self._change(), np.inf)
        order = np.argsort(change, kind="stable")[:_TRIED]
        if change[order[0]] < -1e-9:
            self.chosen[order[0]] ^= True
            return True
        for first in order[np.isfinite(change[order])]:
            self.chosen[first] ^= True
            second = np.where(self._movable(), self._change(), np.inf)
            second[first] = np.inf
            best = int(np.argmin(second))
            if change[first] + second[best] < -1e-9:
                self.chosen[best] ^= True
                return True
            self.chosen[first] ^= True
        return False

    def _gaps(self) -> Numbers:
        """Rows held out above the share of each label, and of all rows [L + 1]."""
        gaps: Numbers = self.rows.T @ self.chosen - self.shares
        return gaps

    def _change(self) -> Numbers:
        """What moving each group to the other side adds to the weighted squares of the gaps [G]."""
        sign = np.where(self.chosen, -1, 1)
        change: Numbers = 2 * sign * (self.rows @ (self.weights * self._gaps())) + self.rows**2 @ self.weights
        return change

    def _movable(self) -> Chosen:
        """Which groups may change sides: never the last one of a label that stays, nor the last that is held out."""
        stay = self.has.T @ ~self.chosen
        last = self.has @ (stay == 1) > 0
        movable: Chosen = np.where(self.chosen, self.chosen.sum() > 1, ~last)
        return movable


def _that_fit(counts: Numbers, wanted: float, most: int) -> list[int]:
    """The first groups that fit into the rows wanted, at most so many."""
    fitting: list[int] = []
    for place, count in enumerate(counts.tolist()):
        if len(fitting) == most or wanted <= 0:
            break
        if count <= wanted:
            fitting.append(place)
            wanted -= count
    return fitting
