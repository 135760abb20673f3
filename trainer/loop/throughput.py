"""The speed of a run as one number."""

import statistics
from array import array

WARM_UP = 2
"""Intervals left out: the first steps build kernels, fill allocator pools and wake the readers of the data."""


class Throughput:
    """Tokens a second over all ranks: the median over the measured intervals, the first two left out."""

    def __init__(self) -> None:
        self._intervals = 0
        self._rates = array("d")

    def add(self, tokens: int, seconds: float) -> None:
        """Notes one interval, best a single step: its tokens over all ranks, padding left out, and its length."""
        assert tokens >= 0, tokens
        assert seconds > 0, seconds
        self._intervals += 1
        if self._intervals > WARM_UP:
            self._rates.append(tokens / seconds)

    def median(self) -> float | None:
        """Tokens a second; None until an interval after the warm-up was measured."""
        return statistics.median(self._rates) if self._rates else None
