"""Work that rank 0 does while the others wait; a failure of it is every rank's."""

from collections.abc import Callable
from typing import TypeVar

from trainer import ranks
from trainer.errors import ProblemsError, RunError, ShardtuneError

Result = TypeVar("Result")


def on_rank_zero(work: Callable[[], Result]) -> Result | None:
    """What `work` returns, on rank 0; None on the others, once it is done. Every rank raises the error of rank 0."""
    if not ranks.is_main():
        failure = ranks.broadcast(None)
        if failure is not None:
            raise _error(*failure)
        return None
    try:
        result = work()
    except BaseException as error:
        # The others wait for this message, whatever went wrong.
        ranks.broadcast(_outcome(error))
        raise
    ranks.broadcast(None)
    return result


def _outcome(error: BaseException) -> tuple[type[ShardtuneError], object]:
    """The class of an error and what it is made of: an exception with problems does not pickle."""
    if isinstance(error, ProblemsError):
        return type(error), error.problems
    if isinstance(error, ShardtuneError):
        return type(error), str(error)
    return RunError, f"rank 0 failed: {type(error).__name__}: {error}"


def _error(kind: type[ShardtuneError], content: object) -> ShardtuneError:
    return kind(content)
