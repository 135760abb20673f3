"""Waits for the workers of a run, ends those that must not go on alone, and tells how the run ended."""

import contextlib
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from trainer.errors import RunError, ShardtuneError, Stopped
from trainer.launch import nodes, outcome
from trainer.launch.worker import Worker

POLL_SECONDS = 0.05
SETTLE_SECONDS = 1.0
"""After a failure, for the others to fail by themselves: a rank may see the broken connection before the cause ends."""
FAILURE_SECONDS = 10.0
"""After SIGTERM because a sibling failed."""
STOP_SECONDS = 300.0
"""After SIGTERM because the user or the scheduler asked: time to save."""

_CONSEQUENCE = 4
"""The weight of workers that were ended because of others."""
_FAULTS = {-signal.SIGKILL, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE}


class Signals:
    """Counts the requests to stop that reach this process while the `with` lasts; main thread only."""

    def __init__(self) -> None:
        self.received: list[signal.Signals] = []
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # One that is ignored stays ignored: that is what nohup does.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received.append(signal.Signals(number))


def watch(workers: Sequence[Worker], folder: Path, signals: Signals, node: int = 0) -> None:
    """Returns when every worker has ended: by itself, after the failure of a sibling or of another node, or on a signal
    to this process.
    """
    failed_at: float | None = None
    looked = time.monotonic()
    deadline: float | None = None
    while True:
        now = time.monotonic()
        living = [worker for worker in workers if worker.alive(now)]
        if not living:
            return
        if signals.received and deadline is None:
            deadline = now + STOP_SECONDS
            _tell(living, signals.received[0])
        if deadline is None and any(worker.ended and worker.status == Stopped.status for worker in workers):
            deadline = now + STOP_SECONDS  # asked by somebody else, such as a scheduler that signals every process
        elsewhere = False
        if failed_at is None and now > looked + nodes.LOOK_SECONDS:
            looked, elsewhere = now, bool(nodes.told(folder, but=node))
        if failed_at is None and (elsewhere or any(_has_failed(worker, folder) for worker in workers)):
            failed_at = now
            deadline = min(deadline or float("inf"), now + SETTLE_SECONDS + FAILURE_SECONDS)
        if failed_at is not None and now > failed_at + SETTLE_SECONDS:
            for worker in living:
                if not worker.broken:
                    worker.broken = True
                    worker.terminate()
        if len(signals.received) > 1 or (deadline is not None and now > deadline):
            for worker in living:
                worker.kill()
        time.sleep(POLL_SECONDS)


def _has_failed(worker: Worker, folder: Path) -> bool:
    """Whether it ended badly, or left an error and may hang in its clean-up, as nccl does without its peers."""
    if worker.ended is not None:
        return worker.status not in (0, Stopped.status)
    error = outcome.read(folder, worker.rank)
    return error is not None and not isinstance(error, Stopped)


def _tell(living: Sequence[Worker], number: signal.Signals) -> None:
    for worker in living:
        worker.terminate()
    with contextlib.suppress(OSError):  # the terminal may be gone: SIGHUP
        print(f"\n{number.name}: the run saves and stops; once more ends it at once", file=sys.stderr, flush=True)


def verdict(workers: Sequence[Worker], folder: Path, signals: Signals, size: int) -> tuple[ShardtuneError | None, int]:
    """Why the run did not go well on this node, once every worker has ended, or None where it did; and how likely that
    followed from a failure elsewhere. `size` are the ranks of all nodes.
    """
    errors = {worker.rank: outcome.read(folder, worker.rank) for worker in workers if worker.status != 0}
    stopped = [worker for worker in workers if worker.rank in errors and _left_as_asked(worker, errors[worker.rank])]
    failed = [worker for worker in workers if worker.rank in errors and worker not in stopped]
    if signals.received and any(worker.status == -signal.SIGTERM for worker in failed):
        # Without a handler yet: it was still starting, and its siblings fail for the want of it.
        name = signals.received[0].name
        return Stopped(f"stopped by {name} before there was anything to save; start it again to go on"), 0
    causes = [worker for worker in failed if errors[worker.rank] or not (worker.killed or worker.broken)]
    if causes:
        cause = min(causes, key=lambda worker: (_weight(worker, errors[worker.rank]), worker.ended, worker.rank))
        error = errors[cause.rank] or RunError(_describe(cause, size))
        return error, _weight(cause, errors[cause.rank])
    if failed:
        return RunError(_describe_killed(failed, signals)), _CONSEQUENCE
    if stopped:
        said = next((error for error in errors.values() if isinstance(error, Stopped)), None)
        return said or Stopped("stopped on a signal; start it again to go on"), 0
    return None, 0


def _left_as_asked(worker: Worker, error: ShardtuneError | None) -> bool:
    return worker.status == Stopped.status or isinstance(error, Stopped)


def _weight(worker: Worker, error: ShardtuneError | None) -> int:
    """How likely another rank's failure follows from this one: 0 the most likely cause."""
    if error is not None and error.status != RunError.status:
        return 0
    if worker.status in _FAULTS:
        return 1
    return 2 if error is not None else 3


def _describe(worker: Worker, count: int) -> str:
    lines = worker.last_lines()
    log = [f"The end of its log, {worker.log}:", *(f"    {line}" for line in lines)]
    return "\n".join(
        [f"rank {worker.rank} of {count} {worker.ending()}", *(log if lines else [f"Its log is empty: {worker.log}"])]
    )


def _describe_killed(failed: Sequence[Worker], signals: Signals) -> str:
    names = ", ".join(str(worker.rank) for worker in failed)
    if len(signals.received) > 1:
        second = signals.received[1].name
        return f"ended at once on a second {second}, without saving; start it again to go on from the last checkpoint"
    return (
        f"rank {names} did not save and leave within {STOP_SECONDS:.0f} seconds and was killed; "
        "start it again to go on from the last checkpoint"
    )
