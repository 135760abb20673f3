"""Starts the processes of one node of a run and watches them, without importing torch."""

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainer import meeting
from trainer.environment import worker_environment
from trainer.errors import EXIT_DONE, Problem, RecipeError
from trainer.launch import extension_locks, lock, nodes, outcome
from trainer.launch.merged import merge
from trainer.launch.watch import Signals, verdict, watch
from trainer.launch.worker import Worker, start

_BACKLOG = 1024


@dataclass(frozen=True)
class Place:
    """Which node this is, and where the processes of all nodes meet."""

    address: str
    port: int | None
    """None: any free one, for one node."""
    node: int = 0
    nodes: int = 1
    patience: int = 300
    """Seconds that nodes wait for one another."""


def run(
    folder: Path,
    *,
    processes: int,
    place: Place,
    threads: int | None,
    command: Sequence[str] | None = None,
    held: int | None = None,
    ready: Callable[[], None] = lambda: None,
) -> int:
    """Runs the prepared run folder on `processes` workers of this node and returns 0; raises what went wrong otherwise.

    `threads` are processor threads a worker; None shares out the cores. `command` is what each worker runs. `held` is
    the descriptor of the folder's lock where the caller already holds it; the first node alone holds it. `ready` is
    called before the first node listens, and on the others once it does. An error of a worker is raised here as the
    class it was, `Stopped` where the workers left on a signal, and RunError where one ended in any other way, here or
    on another node.
    """
    first = place.node == 0
    with contextlib.ExitStack() as stack:
        lock_fd = stack.enter_context(lock.hold(folder)) if held is None and first else held
        console = stack.enter_context(_console()) if first else None
        signals = stack.enter_context(Signals())
        if first:
            ready()
            tidy(folder, clear=True)
            listener = stack.enter_context(_listen_for_all(place))
            place = replace(place, port=listener.getsockname()[1])
        else:
            meeting.wait_for(place.address, place.port or 0, place.patience)
            ready()
            tidy(folder, clear=False)
        before = outcome.summary_mark(folder)
        workers: list[Worker] = []
        try:
            for index in range(processes):
                own = {"lock": lock_fd}
                if first and index == 0:
                    own |= {"store": listener.fileno(), "console": console}
                workers.append(_start(folder, place, index, processes, threads, command, own))
            if first:
                listener.close()  # rank 0's alone: when it dies, nobody keeps waiting for an answer
            watch(workers, folder, signals, place.node)
        finally:
            _end(workers)
        error = nodes.blame(
            folder, place.node, place.nodes, *verdict(workers, folder, signals, place.nodes * processes)
        )
        if first:
            merge(folder)
        if error is None:
            return EXIT_DONE
        _leave_bar(console)
        with contextlib.suppress(OSError):  # a full disk must not hide why the run failed
            if first:
                outcome.write_summary(folder, error, before)
        raise error


def _start(
    folder: Path,
    place: Place,
    index: int,
    processes: int,
    threads: int | None,
    command: Sequence[str] | None,
    own: Mapping[str, int | None],
) -> Worker:
    """Starts worker `index` of this node; `own` are the descriptors that it inherits."""
    assert place.port is not None, "the first node has chosen it, the others know it"
    rank = place.node * processes + index
    environment = worker_environment(
        rank=rank,
        size=place.nodes * processes,
        local_rank=index,
        local_size=processes,
        address=place.address,
        port=place.port,
        store_fd=own.get("store"),
        console=own.get("console"),
        threads=threads,
    )
    log = folder / outcome.LOGS / f"rank-{rank}.log"
    return start(rank, command or _command(folder), environment, log, [fd for fd in own.values() if fd is not None])


def _listen_for_all(place: Place) -> socket.socket:
    """A socket that the other nodes, where there are any, can reach."""
    listener = listen(place.address, place.port)
    found = listener.getsockname()[0]
    if place.nodes > 1 and meeting.is_name(place.address) and found.startswith("127."):
        listener.close()
        message = f"{place.address} is {found} on this machine itself, which no other node can reach; name its address"
        raise RecipeError([Problem("launch.address", message)])
    return listener


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


def tidy(folder: Path, *, clear: bool) -> None:
    """Makes the logs' folder and removes what earlier starts left, there where `clear`, and among the builds of
    compiled ops.
    """
    try:
        (folder / outcome.LOGS).mkdir(exist_ok=True)
        if clear:
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
