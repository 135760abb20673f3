"""Every error that a user can meet, and the exit status each one ends with.

ShardtuneError
├── RecipeError       2   the recipe is wrong (all problems at once)
│   └── SuiteError    2   the suite of a benchmark is wrong
├── DataError         3   the data is wrong (all problems at once)
├── OutOfMemoryError  4   the device or the machine ran out of memory
└── RunError          5   a rank failed, or the run could not go on
    └── Stopped      75   stopped on a signal with a checkpoint saved
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

EXIT_DONE = 0


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where it stands, what it is, and the way out."""

    where: str
    """A key of the recipe, such as `optimizer.lr`, or a file with its line, such as `rows.jsonl:12`."""
    message: str
    """The value and the way out, as one sentence."""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class ShardtuneError(Exception):
    """The base of all errors with a message for the user; `status` is the exit status."""

    status = 5


class ProblemsError(ShardtuneError):
    """An error that holds every problem found, so that a user mends them in one go."""

    title = ""

    def __init__(self, problems: Sequence[Problem]) -> None:
        assert problems, "an error needs at least one problem"
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


class RecipeError(ProblemsError):
    """The recipe cannot run as it stands."""

    status = 2
    title = "The recipe is wrong"


class SuiteError(RecipeError):
    """The suite cannot be measured as it stands."""

    title = "The suite is wrong"


class DataError(ProblemsError):
    """The data cannot be trained on as they stand."""

    status = 3
    title = "The data are wrong"


class OutOfMemoryError(ShardtuneError):
    """Memory ran out; the message says where, and what would help."""

    status = 4


class RunError(ShardtuneError):
    """A process of the run failed, or the run could not go on."""

    status = 5


class Stopped(RunError):
    """The run was asked to stop and saved a checkpoint first: start it again to go on."""

    status = 75


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` where a known word is near, else `; known: ...`; empty where nothing is known."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; known: {', '.join(names)}" if names else ""
