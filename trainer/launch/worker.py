"""One process of a local run: how it is started, ended and described."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.launch import lifeline

STARTED = "--- started "
"""What the line begins with that each start writes first into a log."""
_TAIL_LINES = 15
_TAIL_BYTES = 64 * 1024
_LINE_LENGTH = 400


@dataclass
class Worker:
    """A started process, its log, and what the launcher did to it."""

    rank: int
    process: "subprocess.Popen[bytes]"
    log: Path
    log_start: int
    """Bytes that earlier starts left in the log."""
    ended: float | None = None
    """When the launcher saw its end; equal for workers seen in one look."""
    told: bool = False
    """The launcher asked it to leave."""
    broken: bool = False
    """It was asked to leave because a sibling had failed."""
    killed: bool = False
    """The launcher killed it."""

    @property
    def status(self) -> int:
        """Exit status; the negative number of the signal that ended it."""
        status = self.process.returncode
        assert isinstance(status, int), "the worker is still alive"
        return status

    def alive(self, now: float) -> bool:
        """Looks whether the process is alive, and notes when it is not any more."""
        if self.ended is None and self.process.poll() is not None:
            self.ended = now
            self._signal_group(signal.SIGKILL)  # what it started and left behind would keep the folder's lock
        return self.ended is None

    def terminate(self) -> None:
        """Asks the process, and not what it started, to save and leave."""
        self.told = True
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the process and all that it started."""
        self.killed = True
        self._signal_group(signal.SIGKILL)

    def ending(self) -> str:
        """How it ended, in words."""
        if self.status >= 0:
            return f"ended with exit status {self.status}"
        name = signal.Signals(-self.status).name if -self.status in set(signal.Signals) else f"signal {-self.status}"
        hint = ", perhaps because the machine ran out of memory" if -self.status == signal.SIGKILL else ""
        return f"was killed by {name}{hint}"

    def last_lines(self) -> list[str]:
        """The end of what it wrote since this start; of a line drawn over and over, its last state."""
        with self.log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self.log_start, end - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
        lines = [line.rstrip().rpartition("\r")[2] for line in text.split("\n")]
        return [line[:_LINE_LENGTH] for line in lines if line][-_TAIL_LINES:]

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def start(
    rank: int, command: Sequence[str], environment: Mapping[str, str], log: Path, descriptors: Sequence[int]
) -> Worker:
    """Starts one worker that dies with this process, in a session of its own: Ctrl-C reaches the launcher alone."""
    tied = [sys.executable, "-I", "-S", lifeline.__file__, str(os.getpid()), *command]
    with log.open("ab") as file:
        file.write(f"{STARTED}{time.strftime('%Y-%m-%d %H:%M:%S')} by process {os.getpid()}\n".encode())
        file.flush()
        log_start = file.tell()
        process = subprocess.Popen(
            tied,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            pass_fds=descriptors,
            start_new_session=True,
        )
    return Worker(rank, process, log, log_start)
