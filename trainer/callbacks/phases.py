"""From one phase of a strategy to the next, between two steps."""

from collections.abc import Callable, Sequence

from torch import nn

from trainer.config.recipe import Recipe
from trainer.engine import module as modules
from trainer.engine.engine import Engine
from trainer.loop.callback import Callback, EvaluationMetrics
from trainer.loop.state import State
from trainer.optim import schedule
from trainer.strategy import rates
from trainer.strategy.course import Course


class Phases(Callback):
    """Lets other weights train when a phase ends, and tells the learning rate of each step.

    It comes behind the saver: a checkpoint of the last step of a phase is of that phase, and who goes on from it begins
    the next one.
    """

    def __init__(
        self, recipe: Recipe, course: Course, module: nn.Module, engine: Engine, per_epoch: int | None
    ) -> None:
        """`per_epoch`: the optimizer steps of an epoch, where they are known."""
        self.recipe, self.course, self.module, self.engine = recipe, course, module, engine
        self.per_epoch = per_epoch
        self.told: Sequence[Callback] = ()
        self.renew: Callable[[], None] = lambda: None
        """What is done when other weights train."""

    def start(self, state: State) -> None:
        """A checkpoint may stand where a phase ends."""
        self._advance(state)

    def evaluated(self, state: State, metrics: EvaluationMetrics) -> None:
        """Counts validations without a better one."""
        state.stalled = 0 if state.best_step == state.step else state.stalled + 1

    def step_end(self, state: State) -> None:
        """The next phase, where this one is over."""
        self._advance(state)

    def rate(self, state: State) -> float:
        """The learning rate of the next step."""
        recipe, phase = self.recipe, self.course.at(state.phase)
        step, steps = state.step, state.steps
        if getattr(recipe.strategy, "restart", False):
            steps = phase.length(state.phase_step, steps, self.per_epoch)
            step = min(step - state.phase_step, steps - 1)
        return recipe.optimizer.lr * phase.rate * schedule.rate(recipe.schedule, step, steps)

    def go_to(self, state: State, number: int) -> None:
        """Lets train what trains in a phase; nobody is told, because the best step may lie in an earlier one."""
        state.phase = number
        self.engine.rebuild(rates.settings_of(self.recipe), self.course.enter(number))

    def _advance(self, state: State) -> None:
        own = state.step - state.phase_step, state.epoch - state.phase_epoch, state.stalled
        over = self.course.at(state.phase).is_over(*own, (state.step, state.steps))
        if over and not _ends(state) and self.course.has(state.phase + 1):
            state.phase_step, state.phase_epoch, state.stalled = state.step, state.epoch, 0
            self.go_to(state, state.phase + 1)
            self.renew()
            self._tell(state)

    def _tell(self, state: State) -> None:
        phase = self.course.at(state.phase).called
        trained, own = modules.trained(self.recipe, self.module), modules.rates_of(self.recipe, self.module)
        for callback in self.told:
            callback.entered(state, phase, trained, own)


def _ends(state: State) -> bool:
    return state.stopping or state.step >= state.steps
