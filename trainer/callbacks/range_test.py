"""Ends a range test of learning rates where the loss explodes."""

from trainer.loop.callback import Callback, StepMetrics
from trainer.loop.state import State

EXPLODED = 4.0
"""Times the lowest smoothed loss, as fast.ai has it."""
SMOOTHING = 0.9
"""Of the exponential mean of the losses."""
_LEAST = 10
"""Steps before which nothing is said."""


class Smoothed:
    """An exponential mean without the bias towards its start (Kingma and Ba 2015, section 3)."""

    def __init__(self) -> None:
        self._sum, self._steps = 0.0, 0

    def add(self, value: float) -> float:
        """The mean with one value more."""
        self._steps += 1
        self._sum = SMOOTHING * self._sum + (1.0 - SMOOTHING) * value
        return self._sum / (1.0 - SMOOTHING**self._steps)


class RangeTest(Callback):
    """Needs a report of each step."""

    def __init__(self) -> None:
        self._smoothed, self._lowest = Smoothed(), float("inf")

    def report(self, state: State, metrics: StepMetrics) -> None:
        """After each step; the run is over where the loss is far above its lowest."""
        now = self._smoothed.add(metrics.loss)
        self._lowest = min(self._lowest, now)
        if state.step >= _LEAST and now > EXPLODED * self._lowest:
            state.steps = state.step
