"""Which rows are held out for validation."""

from collections.abc import Sequence

import numpy as np

from trainer.errors import DataError, Problem


def held_out_size(rows: int, fraction: float) -> int:
    """How many of the rows are held out: at least one, and at least one stays; DataError where there is only one."""
    if rows < 2:
        message = "one row cannot be shared out between training and validation; add rows, or set it to null"
        raise DataError([Problem("data.validation", message)])
    return min(max(1, round(rows * fraction)), rows - 1)


def held_out(digests: Sequence[int], fraction: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether each row is held out [N]: those with the smallest digests.

    A digest depends on the seed and on what a row says, so the choice does not depend on the order of rows, and
    rows that say the same stand next to each other: they are on the same side.
    """
    order = np.argsort(np.array(digests, dtype=np.uint64), kind="stable")
    chosen = np.zeros(len(digests), dtype=np.bool_)
    chosen[order[: held_out_size(len(digests), fraction)]] = True
    return chosen
