"""The learning rate as a pure function of the step: a resumed run needs nothing but its step."""

import math
from collections.abc import Callable

from trainer.config.schedule import Schedule


def linear(progress: float) -> float:
    """A line from 1 to 0."""
    return 1.0 - progress


def cosine(progress: float) -> float:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter 2017, equation 5, without restarts)."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def constant(progress: float) -> float:
    """1, all the way."""
    return 1.0


SHAPES: dict[str, Callable[[float], float]] = {"linear": linear, "cosine": cosine, "constant": constant}


def warmup_steps(schedule: Schedule, steps: int) -> int:
    """Optimizer steps in which the rate rises."""
    return min(steps, math.ceil(schedule.warmup * steps) if schedule.warmup < 1 else int(schedule.warmup))


def rate(schedule: Schedule, step: int, steps: int) -> float:
    """The factor on `optimizer.lr` at step `step` (from 0) of `steps`.

    The first step of a warm-up of W steps has 1/W, the last one 1; then the shape falls, and would reach its end one
    step after the last.
    """
    warm = warmup_steps(schedule, steps)
    if step < warm:
        return (step + 1) / warm
    return SHAPES[schedule.kind]((step - warm) / max(1, steps - warm))
