"""Validation while training: before the first step, every `evaluate.every` steps, and after the last."""

from collections.abc import Sequence
from typing import Any

from trainer.config.evaluate import Evaluate as Settings
from trainer.data.batches import Windows
from trainer.engine.engine import Engine
from trainer.loop.callback import Callback
from trainer.loop.evaluate import evaluate
from trainer.loop.state import State


class Evaluate(Callback):
    """Measures, keeps the best value in the state, and tells the others."""

    def __init__(
        self, settings: Settings, engine: Engine, task: Any, windows: Windows, told: Sequence[Callback]
    ) -> None:
        self.settings, self.engine, self.task, self.windows, self.told = settings, engine, task, windows, told

    def start(self, state: State) -> None:
        """A run that begins is measured once before it."""
        if state.step == 0:
            self._measure(state)

    def step_end(self, state: State) -> None:
        """As often as the recipe says."""
        if state.step % self.settings.every == 0 or state.step == state.steps:
            self._measure(state)

    def _measure(self, state: State) -> None:
        metrics = evaluate(self.engine, self.task, self.windows, state)
        if state.first_value is None:
            state.first_value = metrics.loss
        if state.best_value is None or metrics.loss < state.best_value:
            state.best_step, state.best_value = state.step, metrics.loss
        for callback in self.told:
            callback.evaluated(state, metrics)
