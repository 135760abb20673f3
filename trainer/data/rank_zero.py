"""Work that rank 0 does while the others wait; a failure of it is every rank's."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from trainer import ranks
from trainer.errors import ProblemsError, RunError, ShardtuneError

Result = TypeVar("Result")

SECONDS = 120.0
"""Between two signs of life: a process group gives up on a rank that is silent for 10 or 30 minutes."""
_AT_WORK = "at work"


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
        with _signs_of_life():
            result = work()
    except BaseException as error:
        # The others wait for this message, whatever went wrong.
        ranks.broadcast(_outcome(error))
        raise
    ranks.broadcast(None)
    return result


@contextmanager
def _signs_of_life() -> Iterator[None]:
    """Tells the others, where there are any, from time to time that it goes on."""
    if ranks.world_size() == 1:
        yield
        return
    done = threading.Event()

    def tell() -> None:
        while not done.wait(SECONDS):
            ranks.broadcast(_AT_WORK)

    teller = threading.Thread(target=tell, daemon=True)
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
