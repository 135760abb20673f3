"""Validation while training: before the first step, every `evaluate.every` steps, and after the last."""

from collections.abc import Sequence

from trainer.config.evaluate import Evaluate as Settings
from trainer.data.batches import Windows
from trainer.engine.engine import Engine
from trainer.loop.callback import Callback
from trainer.loop.evaluate import evaluate
from trainer.loop.state import State
from trainer.tasks.objective import Objective


class Evaluate(Callback):
    """Measures, keeps the best value in the state, and tells the others."""

    def __init__(
        self, settings: Settings, engine: Engine, task: Objective, windows: Windows, told: Sequence[Callback]
    ) -> None:
        self.settings, self.engine, self.task, self.windows, self.told = settings, engine, task, windows, told

    def start(self, state: State) -> None:
        """A run that begins is measured once before it; one that has lost its patience ends."""
        if state.step == 0:
            self._measure(state)
        self._end_without_patience(state)

    def step_end(self, state: State) -> None:
        """As often as the recipe says."""
        if state.step % self.settings.every == 0 or state.step == state.steps:
            self._measure(state)
            self._end_without_patience(state)

    def _measure(self, state: State) -> None:
        metrics = evaluate(self.engine, self.task, self.windows, state, self.settings)
        value = metrics.value(self.settings.metric)
        if state.first_value is None:
            state.first_value = value
        if value is not None and (state.best_value is None or self._is_better(value, state.best_value)):
            state.best_step, state.best_value, state.since_best = state.step, value, 0
        else:
            state.since_best += 1
        for callback in self.told:
            callback.evaluated(state, metrics)

    def _is_better(self, value: float, best: float) -> bool:
        return value < best if self.settings.mode == "min" else value > best

    def _end_without_patience(self, state: State) -> None:
        if self.settings.patience is not None and state.since_best >= self.settings.patience:
            state.steps = state.step
