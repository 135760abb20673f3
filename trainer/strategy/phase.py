"""A stretch of a run in which the same parameters train."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.config.strategy import Ends
from trainer.parameter import Parameter


@dataclass(frozen=True)
class Phase:
    """What trains, at which share of the rate, and when it ends; without an end it goes on to that of the run."""

    called: str
    names: frozenset[str]
    """Of the parameters that train."""
    rate: float = 1.0
    """On the rate of the run."""
    ends: Ends = field(default_factory=Ends)
    until: float | None = None
    """The share of the run's steps at which it ends."""

    def is_over(self, steps: int, epochs: float, stalled: int, run: tuple[int, int]) -> bool:
        """Whether it ends after so many steps and epochs of its own, and validations without a better one; `run` are
        the steps of the run that are done, and all of them.
        """
        if self.until is not None:
            return run[0] >= math.ceil(self.until * run[1])
        if self.ends.steps is not None:
            return steps >= self.ends.steps
        if self.ends.epochs is not None:
            return epochs >= self.ends.epochs - 1e-9
        return self.ends.plateau is not None and stalled >= self.ends.plateau

    def length(self, began: int, steps: int, per_epoch: int | None) -> int:
        """Its steps, as far as they are known at the step at which it began, of a run of `steps`."""
        rest = max(1, steps - began)
        if self.until is not None:
            return max(1, min(rest, math.ceil(self.until * steps) - began))
        if self.ends.steps is not None:
            return min(rest, self.ends.steps)
        if self.ends.epochs is not None and per_epoch is not None:
            return max(1, min(rest, math.ceil(self.ends.epochs * per_epoch)))
        return rest


At = Callable[[int], Phase | None]
"""The phases by their number from 0; None behind the last one."""


@dataclass(frozen=True)
class Model:
    """What a strategy chooses from."""

    listed: Sequence[Parameter]
    """All parameters."""
    left: frozenset[str]
    """The names of those that the adapter left trainable."""
    seed: int
    headed: bool
    """Whether the task has a head of its own."""

    @property
    def head(self) -> frozenset[str]:
        """The names of what belongs to the head of a task."""
        return frozenset(one.name for one in self.listed if self.headed and one.part in ("head", "pooler"))

    def train(self, chosen: Sequence[Parameter]) -> frozenset[str]:
        """The names of those that can train, of chosen ones."""
        return frozenset(one.name for one in chosen) & self.left


def of_list(phases: Sequence[Phase]) -> At:
    """So many, one after the other."""
    return lambda number: phases[number] if number < len(phases) else None


def once(trains: Callable[[Any, Sequence[Parameter]], list[Parameter]]) -> Callable[[Any, Model], At]:
    """The one phase of a strategy that trains the same all the time; the head of a task trains besides."""

    def phases(settings: Any, model: Model) -> At:
        names = model.train(trains(settings, model.listed)) | (model.head & model.left)
        return of_list([Phase(settings.kind, names)])

    return phases
