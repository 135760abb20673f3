"""The learning rate as a pure function of the step: a resumed run needs nothing but its step."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from trainer.config.schedule import Schedule

UNWARMED = 10_000
"""Steps that inverse_sqrt counts from where there is no warm-up."""
_CYCLE_STARTS, _CYCLE_ENDS = 1 / 25, 1 / 25 / 1e4
"""Where one cycle begins and ends, as shares of the highest rate: those of torch's OneCycleLR."""


@dataclass(frozen=True)
class Place:
    """A step after the warm-up."""

    after: int
    """Steps of the run since the warm-up."""
    warm: int
    """Steps of the warm-up."""
    steps: int
    """All steps of the run."""

    @property
    def progress(self) -> float:
        """The share of the steps after the warm-up that are done: 0 at the first one."""
        return self.after / max(1, self.steps - self.warm)


def linear(place: Place, schedule: Schedule) -> float:
    """A line from 1 to 0."""
    return 1.0 - place.progress


def cosine(place: Place, schedule: Schedule) -> float:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter 2017, equation 5, without restarts)."""
    return _cosine(place.progress)


def cosine_restarts(place: Place, schedule: Schedule) -> float:
    """The same several times, each beginning at 1."""
    return _cosine(place.progress * schedule.cycles % 1.0) if place.progress < 1.0 else 0.0


def constant(place: Place, schedule: Schedule) -> float:
    """1, all the way."""
    return 1.0


def polynomial(place: Place, schedule: Schedule) -> float:
    """What is left of the steps, raised to a power."""
    return float((1.0 - place.progress) ** schedule.power)


def inverse_sqrt(place: Place, schedule: Schedule) -> float:
    """The square root of the steps of the warm-up over all that are done (Vaswani et al. 2017, equation 3); without a
    warm-up of UNWARMED steps, as in T5.
    """
    warm = place.warm or UNWARMED
    return math.sqrt(warm / (warm + place.after))


def wsd(place: Place, schedule: Schedule) -> float:
    """1, and in the last steps a line to 0 (warm-up, stable, decay: Hu et al. 2024, arXiv 2404.06395)."""
    falls = min(place.steps - place.warm, _count(schedule.decay, place.steps))
    return min(1.0, (place.steps - place.warm - place.after) / max(1, falls))


def one_cycle(place: Place, schedule: Schedule) -> float:
    """Half a cosine from 1 to almost 0 at the last step (Smith 2018, as torch's OneCycleLR); `rate` has its rise."""
    # The last step of the rise has the whole rate, so that the fall begins there.
    steps = max(1, place.steps - max(1, place.warm))
    return _between(1.0, _CYCLE_ENDS, (place.after + (place.warm > 0)) / steps)


def range_test(place: Place, schedule: Schedule) -> float:
    """From so many decades below 1 up to 1 at the last step, each step by the same factor (Smith 2017, section 3.3)."""
    last = max(1, place.steps - place.warm - 1)
    return float(10.0 ** (schedule.decades * (place.after / last - 1.0)))


SHAPES: dict[str, Callable[[Place, Schedule], float]] = {
    "linear": linear,
    "cosine": cosine,
    "cosine_restarts": cosine_restarts,
    "constant": constant,
    "polynomial": polynomial,
    "inverse_sqrt": inverse_sqrt,
    "wsd": wsd,
    "one_cycle": one_cycle,
    "range_test": range_test,
}
"""By `schedule.kind`: what follows the warm-up, from 1 down, but for range_test."""


def warmup_steps(schedule: Schedule, steps: int) -> int:
    """Optimizer steps in which the rate rises."""
    return min(steps, _count(schedule.warmup, steps))


def rate(schedule: Schedule, step: int, steps: int) -> float:
    """The factor on `optimizer.lr` at step `step` (from 0) of `steps`.

    The first step of a warm-up of W steps has 1/W, the last one 1; then the shape falls from 1 towards
    `schedule.floor`, which it would reach one step after the last. One cycle rises by a cosine, and ends at its last
    step.
    """
    warm = warmup_steps(schedule, steps)
    if step >= warm:
        shape = SHAPES[schedule.kind](Place(step - warm, warm, steps), schedule)
        return schedule.floor + (1.0 - schedule.floor) * shape
    if schedule.kind == "one_cycle":
        return _between(_CYCLE_STARTS, 1.0, step / max(1, warm - 1)) if warm > 1 else 1.0
    return (step + 1) / warm


def _count(share: float, steps: int) -> int:
    """Steps that are told as a share of all below 1, else as their number."""
    return math.ceil(share * steps) if share < 1 else int(share)


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _between(first: float, last: float, progress: float) -> float:
    """Half a cosine from one value to another."""
    return last + (first - last) * _cosine(progress)
