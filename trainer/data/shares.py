"""Which whole groups of rows make up a share of them, as nearly as they can."""

import numpy as np

from trainer.data.facts import Numbers

Chosen = np.ndarray[tuple[int], np.dtype[np.bool_]]


def fill(sizes: Numbers, wanted: int) -> Chosen:
    """Which of the groups, in their order of preference, hold together as nearly `wanted` rows as any choice does [G].

    At least one group is chosen, and one is not. The first that fit are taken; only where those leave a gap are sums
    of other groups tried.
    """
    assert len(sizes) > 1 and 0 < wanted < sizes.sum(), "some groups are chosen, and some are not"
    if np.all(sizes == 1):
        return np.arange(len(sizes)) < wanted
    chosen = np.zeros(len(sizes), dtype=np.bool_)
    room = wanted
    for group, size in enumerate(sizes.tolist()):
        if size <= room:
            chosen[group] = True
            room -= size
            if room == 0:
                break
    if room == 0 and not np.all(chosen):
        return chosen
    return _exactly(sizes, _nearest_sum(sizes, wanted))


def _exactly(sizes: Numbers, counts: dict[int, int]) -> Chosen:
    """The first groups of each size, as many as wanted."""
    chosen = np.zeros(len(sizes), dtype=np.bool_)
    for size, count in counts.items():
        chosen[np.flatnonzero(sizes == size)[:count]] = True
    return chosen


def _nearest_sum(sizes: Numbers, wanted: int) -> dict[int, int]:
    """How many groups of each size make the sum nearest to `wanted`, neither none nor all of them.

    Bit k of `reached` says whether k rows can be had; groups of one size are taken 1, 2, 4, ... at a time, which makes
    any number of them (bounded subset sums).
    """
    # A sum further above than nothing is below cannot be nearest; but a single group can always be had.
    most = min(max(2 * wanted, int(sizes.min())), int(sizes.sum()) - 1)
    reached, parts = 1, []
    for size, count in zip(*(part.tolist() for part in np.unique(sizes, return_counts=True)), strict=True):
        step = 1
        while count:
            step = min(step, count)
            parts.append((size, step, reached))
            reached |= (reached << size * step) & ((1 << most + 1) - 1)
            count, step = count - step, 2 * step
    distance = next(
        d for d in range(most + 1) if any(0 < k <= most and reached >> k & 1 for k in (wanted - d, wanted + d))
    )
    left = wanted - distance if wanted > distance and reached >> (wanted - distance) & 1 else wanted + distance
    counts: dict[int, int] = {}
    for size, step, before in reversed(parts):
        if not before >> left & 1:
            counts[size] = counts.get(size, 0) + step
            left -= size * step
    return counts


def shared_out(total: int, weights: Numbers, most: Numbers, ties: Numbers) -> Numbers:
    """`total` in whole numbers by `weights`, none above `most`, as near as whole numbers allow [K] (largest remainder).

    Where remainders are equal, the smaller of `ties` comes first. Less than `total` where `most` allows no more.
    """
    shares = np.zeros(len(weights), dtype=np.int64)
    open_ = most > 0
    ideal = np.zeros(len(weights))
    # What a share has no room for goes to the others, by their weights.
    while np.any(open_):
        ideal[open_] = (total - ideal[~open_].sum()) * weights[open_] / weights[open_].sum()
        full = open_ & (ideal > most)
        if not np.any(full):
            break
        ideal[full] = most[full]
        open_ &= ~full
    shares = np.minimum(np.floor(ideal + 1e-9).astype(np.int64), most)
    order = np.lexsort((ties, shares - ideal))
    order = order[shares[order] < most[order]]
    shares[order[: max(0, total - int(shares.sum()))]] += 1
    return shares
