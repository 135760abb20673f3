"""Work on many items in several processes; the results come in the order of the items.

This process is one of them: it reads the items, hands them out, and works on one itself while all others are busy. Each
other process is a fresh interpreter that imports what the work needs and no more: a fork of a process that has loaded
torch and started threads may hang, and `multiprocessing` would import the program that is running.
"""

import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar

from trainer import ranks
from trainer.errors import RunError

Item = TypeVar("Item")
Result = TypeVar("Result")

ITEMS_A_PROCESS = 4
"""Another process is started for each so many items that were read: few items are done before it would be there."""
HELD = 2
"""Items that a process has at a time: one that it works on, and the next."""
LED_AT_MOST = 8
"""With more processes than these, this one does nothing but read, hand out and take in."""

_SERVE = """
import sys
file, descriptor, torch, *sys.path = sys.argv[1:]
if not torch:
    sys.modules["torch"] = None
from trainer.data import processes
processes.serve(file, int(descriptor))
"""
"""What another process runs; it finds modules where this one does, and does without torch where this one does."""


def in_order(work: Callable[[Item], Result], items: Iterable[Item], processes: int) -> Iterator[Result]:
    """The result of each item, in their order, from at most so many processes; `work` and what it is given must pickle.

    RunError where a process dies. What `work` raises here is raised; elsewhere it ends its process.
    """
    numbered = enumerate(items)
    unassigned: deque[tuple[int, Item]] = deque()
    results: dict[int, Result] = {}
    read = told = 0
    with ranks.one_tokenizer_thread(), _Crew(work) as crew:
        while True:
            while read - told <= ITEMS_A_PROCESS * (len(crew) + 1) and (item := next(numbered, None)) is not None:
                unassigned.append(item)
                read += 1
            if read == told:
                return
            if len(crew) + 1 < min(processes, 1 + (read - 1) // ITEMS_A_PROCESS):
                crew.start_one()
            crew.hand_out(unassigned)
            results.update(crew.results(waiting=False))
            if told in results:
                yield results.pop(told)
                told += 1
            elif unassigned and len(crew) < LED_AT_MOST:
                number, own = unassigned.popleft()
                results[number] = work(own)
            else:
                results.update(crew.results(waiting=True))


class _Crew(Generic[Item, Result]):
    """The other processes."""

    def __init__(self, work: Callable[[Item], Result]) -> None:
        self._work = work
        self._closing = ExitStack()
        self._file = ""
        self._members: dict[Connection, _Member] = {}

    def __enter__(self) -> "_Crew[Item, Result]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def __len__(self) -> int:
        return len(self._members)

    def start_one(self) -> None:
        """One more process; it says when it is ready."""
        if not self._file:
            folder = self._closing.enter_context(tempfile.TemporaryDirectory(prefix="shardtune-"))
            self._file = f"{folder}/work"
            Path(self._file).write_bytes(pickle.dumps(self._work))
        member = self._closing.enter_context(closing(_Member(self._file)))
        self._members[member.connection] = member

    def hand_out(self, items: "deque[tuple[int, Item]]") -> None:
        """Gives the first items to those that have room."""
        for room in range(HELD):
            for member in self._members.values():
                if items and member.ready and member.held <= room:
                    member.give(items.popleft())

    def results(self, *, waiting: bool) -> dict[int, Result]:
        """What was finished since, by number of the item; `waiting` for one at least, or for a process to be ready."""
        found = {}
        for connection in wait(list(self._members), timeout=None if waiting else 0):
            assert isinstance(connection, Connection)
            message = self._members[connection].take()
            if message is not None:
                found[message[0]] = message[1]
        return found


class _Member:
    """One other process, as this one sees it."""

    def __init__(self, file: str) -> None:
        self.connection, theirs = Pipe()
        self.ready, self.held = False, 0
        with_torch = sys.modules.get("torch", sys) is not None
        command = [sys.executable, "-c", _SERVE, file, str(theirs.fileno()), "torch" if with_torch else "", *sys.path]
        self._process = subprocess.Popen(
            command,
            env=ranks.helper_environment(),
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def give(self, item: tuple[int, Any]) -> None:
        """One more item with its number."""
        try:
            self.connection.send(item)
        except OSError:
            self._died()
        self.held += 1

    def take(self) -> tuple[int, Any] | None:
        """The result that has come with the number of its item; None where it said that it is ready."""
        try:
            message: tuple[int, Any] | None = self.connection.recv()
        except (EOFError, OSError):
            self._died()
        if message is None:
            self.ready = True
        else:
            self.held -= 1
        return message

    def close(self) -> None:
        """Ends it, whatever it does."""
        self.connection.close()
        self._process.kill()
        self._process.wait()

    def _died(self) -> NoReturn:
        status = self._process.wait()
        how = f"exit status {status}"
        if status < 0:
            how = signal.Signals(-status).name + (", perhaps for want of memory" if -status == signal.SIGKILL else "")
        raise RunError(
            f"a process that turns rows into tokens ended ({how}); the log says more, and data.workers: 1 does without"
        )


def serve(file: str, descriptor: int) -> None:
    """The life of one of the other processes: works on what comes, until the one that started it closes or is gone."""
    # That one decides what a signal means.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    work = pickle.loads(Path(file).read_bytes())
    connection = Connection(descriptor)
    connection.send(None)
    items: SimpleQueue[tuple[int, Any] | None] = SimpleQueue()
    # A thread takes the items in, so that neither side waits for the other to read before it reads itself.
    threading.Thread(target=_take_in, args=(connection, items), daemon=True).start()
    with suppress(BrokenPipeError, ConnectionResetError):
        while (item := items.get()) is not None:
            connection.send((item[0], work(item[1])))


def _take_in(connection: Connection, items: "SimpleQueue[tuple[int, Any] | None]") -> None:
    with suppress(EOFError, OSError):
        while True:
            items.put(connection.recv())
    items.put(None)
