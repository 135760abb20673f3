"""Work that rank 0, or one rank of each node, does while the others wait; a failure of it is every rank's."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from trainer import ranks
from trainer.errors import ProblemsError, RunError, ShardtuneError

Result = TypeVar("Result")

SECONDS = 120.0
"""Between two signs of life: a process group gives up on a rank that is silent for 10 or 30 minutes."""
_AT_WORK = "at work"
_MARK = ".shared"
"""The file by which nodes find out whether they share a folder."""
_SEEN_SECONDS = 5.0
"""For a network's file system to show what another node wrote."""


def on_rank_zero(work: Callable[[], Result]) -> Result | None:
    """What `work` returns, on rank 0; None on the others, once it is done. Every rank raises the error of rank 0.

    `work` may take hours, and must not talk to other ranks.
    """
    if not ranks.is_main():
        failure = _AT_WORK
        while failure == _AT_WORK:
            failure = ranks.broadcast(None)
        if failure is not None:
            raise _error(*failure)
        return None
    try:
        with _telling(lambda: ranks.broadcast(_AT_WORK), ranks.world_size() > 1):
            result = work()
    except BaseException as error:
        # The others wait for this message, whatever went wrong.
        ranks.broadcast(_outcome(error))
        raise
    ranks.broadcast(None)
    return result


def once_a_node(work: Callable[[], Result], shared: Path | None) -> Result | None:
    """What `work` returns, on the ranks that did it; None on the others, once it is done everywhere.

    Rank 0 goes first. The first rank of each other node follows, unless it sees what rank 0 wrote into the folder
    `shared`; None: it always follows, and finds what the nodes share.
    """
    result = on_rank_zero(work)
    if ranks.world_size() == ranks.local_world_size():
        return result
    follows = _follows(shared)
    error: ShardtuneError | None = None
    with _telling(lambda: ranks.all_reduce({"busy": 1.0, "failed": 0.0}), follows):
        try:
            result = work() if follows else result
        except ShardtuneError as failure:
            error = failure
    if error is not None:
        ranks.all_reduce({"busy": 0.0, "failed": 1.0})
        raise error
    while (said := ranks.all_reduce({"busy": 0.0, "failed": 0.0}))["busy"] and not said["failed"]:
        pass
    if shared is not None and ranks.is_main():
        (shared / _MARK).unlink(missing_ok=True)
    if said["failed"]:
        raise RunError("another node could not do what each node does at the start; it says why")
    return result


def _follows(shared: Path | None) -> bool:
    """Whether this rank does the work of rank 0 once more, for its node."""
    mark: str = ranks.broadcast(secrets.token_hex(8) if ranks.is_main() else None)
    if shared is not None and ranks.is_main():
        (shared / _MARK).write_text(mark, encoding="utf-8")
    ranks.barrier()
    if ranks.is_main() or ranks.local_rank():
        return False
    deadline = time.monotonic() + (_SEEN_SECONDS if shared is not None else 0)
    while shared is not None and time.monotonic() < deadline:
        with suppress(OSError):
            if (shared / _MARK).read_text(encoding="utf-8") == mark:
                return False
        time.sleep(0.1)
    return True


@contextmanager
def _telling(tell: Callable[[], object], at_work: bool) -> Iterator[None]:
    """Lets the other ranks hear from time to time that this one goes on, where it is `at_work`."""
    if not at_work:
        yield
        return
    done = threading.Event()

    def keep_telling() -> None:
        while not done.wait(SECONDS):
            tell()

    teller = threading.Thread(target=keep_telling, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def _outcome(error: BaseException) -> tuple[type[ShardtuneError], object]:
    """The class of an error and what it is made of: an exception with problems does not pickle."""
    if isinstance(error, ProblemsError):
        return type(error), error.problems
    if isinstance(error, ShardtuneError):
        return type(error), str(error)
    return RunError, f"rank 0 failed: {type(error).__name__}: {error}"


def _error(kind: type[ShardtuneError], content: object) -> ShardtuneError:
    return kind(content)
