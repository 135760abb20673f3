"""One living run a folder: a lock that lasts as long as any process of the run."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.errors import Problem, RecipeError

FILE = ".lock"
PATIENCE = 5.0
"""Seconds that a start waits for the workers of a command that was killed."""


@contextmanager
def hold(folder: Path) -> Iterator[int]:
    """The descriptor of the folder's lock, for workers to inherit; RecipeError where another run is alive in it.

    The lock belongs to the open file, so it is free again once this process and all that inherited it have ended,
    however they ended; nothing is left to clean up.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise RecipeError(
            [Problem("output", f"{folder} cannot be written: {error.strerror}; choose another folder")]
        ) from None
    try:
        _take(descriptor, folder)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether a run is alive in the folder."""
    try:
        descriptor = os.open(folder / FILE, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _take(descriptor: int, folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline or not _only_workers(descriptor):
                    raise
                time.sleep(0.05)
    except BlockingIOError:
        raise RecipeError([Problem("output", f"{folder} holds a run that is alive {_way_out(descriptor)}")]) from None
    except OSError as error:
        message = f"{folder} cannot be locked: {error.strerror}; choose a folder on another file system"
        raise RecipeError([Problem("output", message)]) from None


def _holder(descriptor: int) -> str | None:
    """The process number of the command that took the lock; None where the file does not say it."""
    text = os.pread(descriptor, 32, 0).decode("ascii", errors="replace").strip()
    return text if text.isdigit() else None


def _lives(process: str) -> bool:
    return Path("/proc", process).exists()


def _only_workers(descriptor: int) -> bool:
    """Whether the command that took the lock has ended, and what it started is ending."""
    process = _holder(descriptor)
    return process is not None and not _lives(process)


def _way_out(descriptor: int) -> str:
    process = _holder(descriptor)
    if process is None:
        return "(another process); wait for its end, or set another output"
    if not _lives(process):
        return f"(process {process} has ended, its workers are ending); try again in a moment, or set another output"
    return f"(process {process}); wait for its end, stop it with `kill {process}`, or set another output"
