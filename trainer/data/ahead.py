"""Rows become tokens while rank 0 still imports torch: another process does it, which does without torch.

`start` begins it, `Rows.finish` waits for it and raises what it found. Where that process is lost, nothing is: rank 0
prepares what is not there.
"""

import os
import pickle
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from trainer import ranks
from trainer.errors import ProblemsError, ShardtuneError
from trainer.launch.lifeline import die_with_parent

_PREPARE = """
import sys
sys.modules["torch"] = None
folder, parent, *sys.path = sys.argv[1:]
from trainer.data import ahead
ahead.prepare(folder, int(parent))
"""
"""What the other process runs. Where torch cannot be imported, transformers does without it, in a third of the time."""


class Rows:
    """The rows that another process prepares."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def finish(self) -> None:
        """Waits for its end; raises the error that it ended with."""
        told, _ = self._process.communicate()
        with suppress(EOFError, pickle.UnpicklingError):
            kind, content = pickle.loads(told)
            raise kind(content)


def start(folder: Path) -> Rows | None:
    """Begins to prepare the rows of a run folder; None where no core is free for it, or only torch can do it."""
    if not ranks.is_main() or ranks.world_size() != ranks.local_world_size():
        return None
    if ranks.cores() <= ranks.local_world_size():
        return None
    command = [sys.executable, "-c", _PREPARE, str(folder), str(os.getpid()), *sys.path]
    return Rows(
        subprocess.Popen(command, env=ranks.alone_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    )


def prepare(folder: str, parent: int) -> None:
    """The life of the other process: it leaves the tokens where rank 0 looks for them, and tells a user's mistake."""
    die_with_parent(parent)
    # The one that started it decides what a signal means.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    told = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        _prepare(Path(folder))
    except ShardtuneError as error:
        content = error.problems if isinstance(error, ProblemsError) else str(error)
        with told:
            pickle.dump((type(error), content), told)


def _prepare(folder: Path) -> None:
    from trainer.config.load import load
    from trainer.data import corpus, tokenizer

    recipe = load(folder / "recipe.yaml")
    # Code that comes with a model may want torch, and labels come from a model.
    if not recipe.model.trust_remote_code and recipe.data.pseudo_label is None:
        corpus.prepare(recipe, tokenizer.load(recipe, folder), folder)
