"""What the user sees while a run goes on: a live bar on a terminal, one plain line a report elsewhere."""

import contextlib
import os
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TextIO, cast

import rich.console
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trainer.loop.callback import Callback, EvaluationMetrics, StepMetrics
from trainer.loop.state import State

_FRAMES_PER_SECOND = 4
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Console(Callback):
    """Tells the user how the run goes; made on rank 0 only."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic, *, metric: str = "loss") -> None:
        """`say` works at once, the bar comes with `start`; `clock` gives seconds, `metric` chooses the best step."""
        self._stream = stream
        self._metric = "" if metric == "loss" else f"{metric} "
        self._total = 0
        self._clock = clock
        self._pace = Pace()
        self._began = clock()
        self._step_ended = self._began
        self._step = 0
        self._metrics: StepMetrics | None = None
        self._validation: float | None = None
        # isatty alone decides: FORCE_COLOR, which CI services set, would draw bars into a log file
        self._out = _Terminal(
            file=cast(IO[str], _Lasting(stream)),
            force_terminal=stream.isatty(),
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._live: Live | None = None
        self._ended: float | None = None

    def say(self, text: str) -> None:
        """Prints a line, above the bar where there is one; long lines stay whole, so that a path can be copied."""
        safe = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
        self._out.print(safe, soft_wrap=True)

    def start(self, state: State) -> None:
        """Starts the clock and, on a terminal, the bar."""
        self._step, self._total = state.step, state.steps
        self._began = self._step_ended = self._clock()
        if state.resumed_from is not None:
            self.say(f"resumed from step {state.resumed_from}")
        if self._out.is_interactive:
            # stray output of other code stays where it goes: a worker's standard output is its log, not this terminal
            self._live = Live(
                console=self._out,
                get_renderable=self._draw,
                refresh_per_second=_FRAMES_PER_SECOND,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start(refresh=True)

    def step_end(self, state: State) -> None:
        """Moves the bar; drawing is left to its thread, so that a step pays nothing for it."""
        self._move(state.step)

    def report(self, state: State, metrics: StepMetrics) -> None:
        """Shows the newest numbers; the loop reports a step before its `step_end`."""
        self._move(metrics.step)
        self._metrics = metrics
        if self._live is None:
            parts = [f"step {self._count(metrics.step)}", *_numbers(metrics), f"left {clock_time(self._left()):>5}"]
            self.say("  ".join(parts))

    def evaluated(self, state: State, metrics: EvaluationMetrics) -> None:
        """Prints the validation beside the best or the first one."""
        self._validation = metrics.loss
        if metrics.step == 0:
            self.say(f"validation before the first step: {_measured(metrics)}")
            return
        note = ""
        if state.best_step == metrics.step:
            start = "" if state.first_value is None else f"; {self._metric}{state.first_value:.2f} at the start"
            note = f" (best so far{start})"
        elif state.best_value is not None:
            note = f" (best {self._metric}{number(state.best_value)} at step {state.best_step})"
        self.say(f"validation at step {metrics.step}: {_measured(metrics)}{note}")

    def tested(self, state: State, metrics: EvaluationMetrics) -> None:
        """Prints the test."""
        self.say(f"test: {_measured(metrics)}")

    def entered(self, state: State, phase: str, trained: str, rates: Mapping[str, float]) -> None:
        """Prints what trains from here on."""
        self.say(f"phase {state.phase + 1} from step {state.step}, {phase}: {trained}")

    def saved(self, state: State, path: str) -> None:
        """Prints the checkpoint's name."""
        self.say(f"saved {Path(path).name}")

    def end(self, state: State) -> None:
        """Leaves the last picture of the bar on the screen and the cursor below it."""
        self._ended = self._clock()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _move(self, step: int) -> None:
        if step > self._step:
            self._step = step
            self._step_ended = self._clock()
            self._pace.step_ended(self._step_ended)

    def _left(self) -> float | None:
        """Seconds until the last step ends; None while the pace is not known."""
        steps = max(0, self._total - self._step)
        pace = self._pace.seconds_a_step()
        if not steps or pace is None:
            return None if steps else 0.0
        # the step under way counts down by at most itself: a long wait must not eat the time of the others
        return steps * pace - min(self._clock() - self._step_ended, pace)

    def _count(self, step: int) -> str:
        return f"{step:>{len(str(self._total))}}/{self._total}"

    def _draw(self) -> RenderableType:
        """Two rows: how far, and how well. In one row, 80 columns would leave seven for the bar."""
        self._out.follow(self._stream)
        now = self._clock() if self._ended is None else self._ended
        times = [f"elapsed {clock_time(now - self._began)}"]
        if self._ended is None:
            times.append(f"left {clock_time(self._left()):>5}")
        far = Table.grid(expand=True, padding=(0, 2, 0, 0))
        far.add_column(no_wrap=True)
        far.add_column(ratio=1)
        far.add_column(no_wrap=True, justify="right")
        far.add_row(f"step {self._count(self._step)}", ProgressBar(self._total, self._step), "  ".join(times))
        well = [] if self._metrics is None else _numbers(self._metrics)
        if self._validation is not None:
            well.insert(1, f"validation {number(self._validation)}")
        return Group(far, Text("  ".join(well), style="dim", no_wrap=True, overflow="ellipsis"))


class Pace:
    """Seconds a step of this process over its last 256 steps, pauses for validation included.

    The first two steps are left out: they compile and fill pools. Steps of earlier processes are never counted.
    """

    WARM_UP = 2

    def __init__(self) -> None:
        self._steps = 0
        self._ends: deque[float] = deque(maxlen=257)

    def step_ended(self, now: float) -> None:
        """Notes the end of a step at `now`, in seconds of any clock."""
        self._steps += 1
        if self._steps >= self.WARM_UP:
            self._ends.append(now)

    def seconds_a_step(self) -> float | None:
        """The mean; None until a step after the warm-up has ended."""
        if len(self._ends) < 2:
            return None
        return (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)


class _Terminal(rich.console.Console):
    """A console that leaves the cursor visible: a process killed with -9 could not bring it back."""

    def show_cursor(self, show: bool = True) -> bool:
        """Does nothing."""
        return False

    def follow(self, stream: TextIO) -> None:
        """Takes the width of the terminal behind `stream`; rich measures standard output, which may be a log."""
        # a closed terminal has no size, and a pseudo-terminal may say 0 x 0
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(stream.fileno())
            if size.columns > 0 and size.lines > 0:
                self.size = rich.console.ConsoleDimensions(*size)


class _Lasting:
    """A stream that training outlives: it goes silent when its reader is gone, and replaces what it cannot encode."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream
        self.encoding = stream.encoding or "utf-8"

    def write(self, text: str) -> int:
        """Passes the text on."""
        if self._stream is not None:
            try:
                self._stream.write(text.encode(self.encoding, "replace").decode(self.encoding))
            except OSError:
                self._stream = None
        return len(text)

    def flush(self) -> None:
        """Passes what is held on."""
        if self._stream is not None:
            try:
                self._stream.flush()
            except OSError:
                self._stream = None


def clock_time(seconds: float | None) -> str:
    """`1:12` or `2:03:04`; `-:--` for a time not known."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def number(value: float) -> str:
    """A loss with four decimals, or with a power of ten where it is huge."""
    return f"{value:.4f}" if abs(value) < 1e4 else f"{value:.3e}"


def _measured(metrics: EvaluationMetrics) -> str:
    return ", ".join(f"{name} {number(value)}" for name, value in {"loss": metrics.loss, **metrics.metrics}.items())


def _numbers(metrics: StepMetrics) -> list[str]:
    speed = f"{metrics.tokens_per_second:,.0f}"
    return [f"loss {number(metrics.loss):>7}", f"lr {metrics.lr:.1e}", f"{speed:>7} tokens/s"]
