"""`log.profile`: what a few steps spent their time on, and on CUDA what held memory meanwhile."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import profile, record_function

from trainer import ranks
from trainer.config.log import Profile as Settings
from trainer.loop.callback import Callback
from trainer.loop.state import State

FOLDER = "profile"
MOST_EVENTS = 200_000
"""Allocations that a memory snapshot goes back at most."""


class Profile(Callback):
    """Writes `profile/trace-rank-0.json.gz`, and `memory-rank-0.pickle` beside it, of each rank's own steps.

    The first opens in chrome://tracing and Perfetto, the second in pytorch.org/memory_viz.
    """

    def __init__(self, settings: Settings, folder: Path, device: torch.device, say: Callable[[str], None]) -> None:
        self.first, self.last = settings.steps
        self.folder, self.device, self.say = folder / FOLDER, device, say
        self._profile: profile | None = None
        self._mark: record_function | None = None

    def start(self, state: State) -> None:
        """Begins here where the very next step is to be seen."""
        self._begin_before(state.step + 1)

    def step_end(self, state: State) -> None:
        """Marks the end of a step, writes after the last one, begins before the first."""
        if self._profile is not None:
            self._end_mark()
            if state.step < self.last:
                self._mark_step(state.step + 1)
            else:
                self._write()
        self._begin_before(state.step + 1)

    def end(self, state: State) -> None:
        """Writes what there is of a run that ended in between."""
        self._write()

    def _begin_before(self, step: int) -> None:
        if step != self.first:
            return
        if self.device.type == "cuda":
            torch.cuda.memory._record_memory_history(max_entries=MOST_EVENTS)
        self._profile = profile(record_shapes=True, profile_memory=True)
        self._profile.start()
        self._mark_step(step)

    def _mark_step(self, step: int) -> None:
        """Names what follows in the trace."""
        self._mark = record_function(f"step {step}")
        self._mark.__enter__()  # type: ignore[no-untyped-call]

    def _end_mark(self) -> None:
        if self._mark is not None:
            self._mark.__exit__(None, None, None)
            self._mark = None

    def _write(self) -> None:
        if self._profile is None:
            return
        self._end_mark()
        self._profile.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        trace = self.folder / f"trace-rank-{ranks.rank()}.json.gz"
        self._profile.export_chrome_trace(str(trace))
        if self.device.type == "cuda":
            snapshot = self.folder / f"memory-rank-{ranks.rank()}.pickle"
            torch.cuda.memory._dump_snapshot(str(snapshot))  # type: ignore[no-untyped-call]
            torch.cuda.memory._record_memory_history(enabled=None)
        self._profile = None
        self.say(f"profile of steps {self.first} to {self.last}: {trace}")
