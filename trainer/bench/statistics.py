"""What can be said of a few noisy numbers. All intervals are of 95 %, two-sided."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CONFIDENCE = 0.95
_TAIL = (1 - CONFIDENCE) / 2


@dataclass(frozen=True)
class Interval:
    """A mean and where the true one lies; `low` and `high` are None where one number tells nothing of the noise."""

    mean: float
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, float | None]:
        """Its three numbers."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


def interval(values: Sequence[float]) -> Interval:
    """Student's t interval of the mean, one degree of freedom less than there are values."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, None, None)
    half = quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def quantile(freedom: float) -> float:
    """Student's t with so many degrees of freedom that is exceeded on one side with a chance of 2.5 %."""
    # Here, because the import takes longer than a wrong suite should wait for.
    from scipy.special import stdtrit

    return -float(stdtrit(freedom, _TAIL))


def welch(before: Sequence[float], after: Sequence[float]) -> float | None:
    """The two-sided p value of Welch's t test (1947) that both have one mean; None where one of them is alone."""
    from scipy.special import stdtr

    if min(len(before), len(after)) < 2:
        return None
    shares = [statistics.variance(values) / len(values) for values in (before, after)]
    difference = statistics.fmean(after) - statistics.fmean(before)
    if sum(shares) == 0:
        return 1.0 if difference == 0 else 0.0
    freedom = sum(shares) ** 2 / sum(
        share**2 / (len(values) - 1) for share, values in zip(shares, (before, after), strict=True)
    )
    return 2 * float(stdtr(freedom, -abs(difference) / math.sqrt(sum(shares))))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """P values adjusted for how many there are (Holm 1979): the chance of one false alarm among all stays the same."""
    known = sorted((value, index) for index, value in enumerate(values) if value is not None)
    adjusted: list[float | None] = [None] * len(values)
    most = 0.0
    for place, (value, index) in enumerate(known):
        most = max(most, min(1.0, value * (len(known) - place)))
        adjusted[index] = most
    return adjusted


@dataclass(frozen=True)
class Power:
    """y = factor x size to the power of `exponent`, by least squares of the logarithms."""

    exponent: Interval
    factor: float

    def at(self, size: float) -> float:
        """What it says of a size."""
        return float(self.factor * size**self.exponent.mean)

    def to_json(self) -> dict[str, Any]:
        """Its exponent and its factor."""
        return {"exponent": self.exponent.to_json(), "factor": self.factor}


def power(sizes: Sequence[float], values: Sequence[float]) -> Power | None:
    """The power law through these points; None where there are less than two sizes, or a value that is not above 0."""
    if len(set(sizes)) < 2 or min(values) <= 0:
        return None
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in values]
    middle, height = statistics.fmean(x), statistics.fmean(y)
    spread = sum((one - middle) ** 2 for one in x)
    slope = sum((one - middle) * (other - height) for one, other in zip(x, y, strict=True)) / spread
    factor = math.exp(height - slope * middle)
    if len(x) < 3:
        return Power(Interval(slope, None, None), factor)
    rest = sum((other - height - slope * (one - middle)) ** 2 for one, other in zip(x, y, strict=True))
    half = quantile(len(x) - 2) * math.sqrt(rest / (len(x) - 2) / spread)
    return Power(Interval(slope, slope - half, slope + half), factor)
