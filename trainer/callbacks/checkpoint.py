"""Checkpoints while training: every `checkpoint.every` steps, at the best validation, at a stop and at the end."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from trainer import ranks
from trainer.checkpoint import folder
from trainer.config.checkpoint import Checkpoint as Settings
from trainer.engine.engine import Engine
from trainer.loop.callback import Callback, EvaluationMetrics
from trainer.loop.state import State


class Checkpoint(Callback):
    """Saves, marks the best, removes the old."""

    def __init__(self, settings: Settings, run: Path, engine: Engine, told: Sequence[Callback]) -> None:
        self.settings, self.run, self.engine, self.told = settings, run, engine, told

    def evaluated(self, state: State, metrics: EvaluationMetrics) -> None:
        """The best state so far is kept."""
        if state.best_step == state.step > 0:
            self._save(state)
            if ranks.is_main():
                folder.mark_best(self.run, state.step)
                folder.prune(self.run, self.settings.keep, state.best_step)

    def step_end(self, state: State) -> None:
        """As often as the recipe says, at a stop and at the end."""
        if state.step % self.settings.every == 0 or state.stopping or state.step == state.steps:
            self._save(state)

    def _save(self, state: State) -> None:
        if state.saved_step == state.step:
            return
        state.saved_step = state.step
        path = folder.save(self.run, self.engine, asdict(state))
        if ranks.is_main():
            folder.prune(self.run, self.settings.keep, state.best_step)
        for callback in self.told:
            callback.saved(state, str(path))
