"""`launch.kind: local`: starts the processes of a run on this machine and watches them, without importing torch."""

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from trainer import ranks
from trainer.errors import EXIT_DONE, Problem, RecipeError
from trainer.launch import extension_locks, lock, outcome
from trainer.launch.watch import Signals, verdict, watch
from trainer.launch.worker import Worker, start

_BACKLOG = 1024


def run(
    folder: Path,
    *,
    processes: int,
    address: str,
    port: int | None,
    threads: int | None,
    command: Sequence[str] | None = None,
    held: int | None = None,
) -> int:
    """Runs the prepared run folder on `processes` workers and returns 0; raises what went wrong otherwise.

    `threads` are processor threads a worker; None shares out the cores. `command` is what each worker runs. `held` is
    the descriptor of the folder's lock where the caller already holds it. An error of a worker is raised here as the
    class it was, `Stopped` where the workers left on a signal, and RunError where one ended in any other way.
    """
    with contextlib.ExitStack() as stack:
        lock_fd = held if held is not None else stack.enter_context(lock.hold(folder))
        listener = stack.enter_context(listen(address, port))
        console = stack.enter_context(_console())
        signals = stack.enter_context(Signals())
        _prepare(folder)
        before = outcome.summary_mark(folder)
        workers: list[Worker] = []
        try:
            for index in range(processes):
                store_fd = listener.fileno() if index == 0 else None
                terminal = console if index == 0 else None
                environment = ranks.worker_environment(
                    index=index,
                    count=processes,
                    address=address,
                    port=listener.getsockname()[1],
                    store_fd=store_fd,
                    console=terminal,
                    threads=threads,
                )
                inherited = [fd for fd in (lock_fd, store_fd, terminal) if fd is not None]
                log = folder / outcome.LOGS / f"rank-{index}.log"
                workers.append(start(index, command or _command(folder), environment, log, inherited))
            listener.close()  # rank 0's alone: when it dies, nobody keeps waiting for an answer
            watch(workers, folder, signals)
        finally:
            _end(workers)
        error = verdict(workers, folder, signals)
        if error is None:
            return EXIT_DONE
        _leave_bar(console)
        with contextlib.suppress(OSError):  # a full disk must not hide why the run failed
            outcome.write_summary(folder, error, before)
        raise error


def listen(address: str, port: int | None) -> socket.socket:
    """A socket that listens on `port`, or on a free one; RecipeError where that cannot be."""
    try:
        family, _, _, _, place = socket.getaddrinfo(address, port or 0, type=socket.SOCK_STREAM)[0]
    except socket.gaierror:
        message = f"{address!r} is not an address that this machine knows; set it to 127.0.0.1"
        raise RecipeError([Problem("launch.address", message)]) from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise RecipeError([_cannot_listen(address, port, error)]) from None
    return listener


def _cannot_listen(address: str, port: int | None, error: OSError) -> Problem:
    free = "leave launch.port out and a free one is taken"
    if error.errno == errno.EADDRINUSE:
        who = "another program, perhaps another run, listens there"
        return Problem("launch.port", f"{port} is in use on {address}: {who} (`ss -ltnp` shows which); {free}")
    if error.errno == errno.EACCES:
        return Problem("launch.port", f"{port} is for the administrator's programs; take one above 1023, or {free}")
    reason = error.strerror or str(error)
    return Problem("launch.address", f"{address} is not an address of this machine ({reason}); set it to 127.0.0.1")


def _prepare(folder: Path) -> None:
    """Makes the logs' folder and removes what earlier starts left, there and among the builds of compiled ops."""
    try:
        (folder / outcome.LOGS).mkdir(exist_ok=True)
        outcome.clear(folder)
        extension_locks.remove_stale()
    except OSError as error:
        raise RecipeError(
            [Problem("output", f"{folder} cannot be written: {error.strerror}; choose another folder")]
        ) from None


def _command(folder: Path) -> list[str]:
    """The worker that imports the `trainer` of this process, whatever folders of the same name stand around."""
    checkout = Path(__file__).resolve().parents[2] == Path.cwd()
    return [sys.executable, *([] if checkout else ["-P"]), "-m", "trainer.worker", str(folder)]


@contextlib.contextmanager
def _console() -> Iterator[int | None]:
    """A second descriptor of standard output, for rank 0 to draw on; None where there is no standard output."""
    try:
        descriptor = os.dup(1)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _end(workers: Sequence[Worker]) -> None:
    """Ends and reaps what is still alive, whatever made the launcher leave."""
    for worker in workers:
        if worker.ended is None:
            worker.kill()
            worker.process.wait()


def _leave_bar(console: int | None) -> None:
    """Moves the terminal's cursor below a progress bar that a killed process left."""
    if console is not None and os.isatty(console):
        with contextlib.suppress(OSError):
            os.write(console, b"\n")
