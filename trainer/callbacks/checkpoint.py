"""Checkpoints while training: every `checkpoint.every` steps, at the best validation, at a stop and at the end.

Where the engine can copy its state, the copy is written in the background, one at a time; the last one of a run is not.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from trainer import ranks
from trainer.checkpoint import folder
from trainer.config.checkpoint import Checkpoint as Settings
from trainer.engine.engine import Engine
from trainer.errors import RunError
from trainer.loop.callback import Callback, EvaluationMetrics
from trainer.loop.state import State


@dataclass(frozen=True)
class _Coming:
    """A checkpoint that is being written."""

    written: "Future[Path]"
    step: int
    best: int | None
    """The best step when it was copied."""


class Checkpoint(Callback):
    """Saves, marks the best, removes the old."""

    def __init__(self, settings: Settings, run: Path, engine: Engine, told: Sequence[Callback]) -> None:
        self.settings, self.run, self.engine, self.told = settings, run, engine, told
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._coming: _Coming | None = None

    def evaluated(self, state: State, metrics: EvaluationMetrics) -> None:
        """The best state so far is kept."""
        if state.best_step == state.step > 0:
            self._save(state)

    def step_end(self, state: State) -> None:
        """As often as the recipe says, at a stop and at the end."""
        if self._coming and self._coming.written.done():
            self._finish(state)
        if state.step % self.settings.every == 0 or _is_last(state):
            self._save(state)

    def end(self, state: State) -> None:
        """What is being written gets whole, also when the run fails for another reason."""
        with suppress(RunError):
            self._finish(state)
        self._pool.shutdown()

    def _save(self, state: State) -> None:
        if state.saved_step == state.step or self.settings.save == "none":
            return
        self._finish(state)
        state.saved_step = state.step
        # Where all wait for the last one anyway, a copy would only take room.
        fill = None if _is_last(state) else self.engine.copy_state()
        if fill is None:
            self._tell(state, folder.save(self.run, self.engine, asdict(state)), state.step, state.best_step)
        elif ranks.is_main():
            written = self._pool.submit(folder.write, self.run, self.engine.shards, asdict(state), fill)
            self._coming = _Coming(written, state.step, state.best_step)

    def _finish(self, state: State) -> None:
        """Waits for the one that is being written; RunError where it could not be."""
        if self._coming is not None:
            coming, self._coming = self._coming, None
            self._tell(state, coming.written.result(), coming.step, coming.best)

    def _tell(self, state: State, path: Path, step: int, best: int | None) -> None:
        """A checkpoint is whole."""
        if not ranks.is_main():
            return
        if best == step:
            folder.mark_best(self.run, step)
        folder.prune(self.run, self.settings.keep, best)
        for callback in self.told:
            callback.saved(state, str(path))


def _is_last(state: State) -> bool:
    return state.stopping or state.step == state.steps
