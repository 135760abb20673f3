"""Runs the rows of a suite as real commands, round by round; what is done already is not done again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import ranks
from trainer.bench import made_rows, measured, peer
from trainer.bench.measured import COMPLETED, FAILED, STATUSES, TIMED_OUT, Ended
from trainer.bench.reading import Read
from trainer.bench.row import Material, Row, of_model
from trainer.bench.suite import Suite
from trainer.config.load import dump
from trainer.config.recipe import Recipe
from trainer.errors import RunError, Stopped
from trainer.launch import lifeline
from trainer.launch.watch import POLL_SECONDS, Signals
from trainer.plan.files import write_json, write_text

Say = Callable[[str], None]
ERROR_LETTERS = 2000
"""Of a run's message on standard error, its end."""
SHOWN_LETTERS = 200
"""Of that, what a line of the terminal shows."""
_LARGE = ("model", "adapter", "checkpoints", "data", "tokenizer")
"""What of a run folder is of no use once it was measured."""


@dataclass(frozen=True)
class Places:
    """Where the parts of a suite's results lie."""

    folder: Path

    def result(self, index: int, row: Row, turn: int) -> Path:
        """The file of one run of a row."""
        return self.folder / "rows" / f"{_name(index, row)}.round-{turn}.json"

    def run(self, index: int, row: Row, turn: int) -> Path:
        """Its run folder."""
        return self.folder / "runs" / f"{_name(index, row)}.round-{turn}"

    def results(self, index: int, row: Row, rounds: int) -> list[dict[str, Any]]:
        """What was measured of a row so far, by round."""
        files = (self.result(index, row, turn) for turn in range(1, rounds + 1))
        return [_read(file) for file in files if file.is_file()]


def _name(index: int, row: Row) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "-", row.name).strip("-").lower()
    return f"{index + 1:03}-{words}"[:80]


def run(read: Read, places: Places, say: Say) -> None:
    """Measures what is not measured yet: A B C, A B C; Stopped on a signal, with all rows before it kept.

    A row that fails is told and not tried in later rounds.
    """
    suite, rows = read.suite, read.rows
    done, total = 0, suite.rounds * len(rows)
    with Signals() as signals:
        model = _model(read, places, signals, say) if suite.made_model else ""
        for turn in range(1, suite.rounds + 1):
            for index, row in enumerate(rows):
                done += 1
                file = places.result(index, row, turn)
                if file.is_file() or _has_failed(places, index, row, turn):
                    continue
                told = _measure(suite, row, places.run(index, row, turn), model, signals)
                if signals.received:
                    raise Stopped(f"stopped after {done - 1} of {total} runs; the same command goes on with the next")
                file.parent.mkdir(parents=True, exist_ok=True)
                write_json(file, told)
                say(f"{done:>4} of {total}  round {turn}  {row.name}: {_in_words(told)}")


def _has_failed(places: Places, index: int, row: Row, turn: int) -> bool:
    """Whether an earlier round of a row did not complete."""
    earlier = [places.result(index, row, before) for before in range(1, turn)]
    return any(_read(file)["status"] != COMPLETED for file in earlier if file.is_file())


def _read(file: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return told


def _in_words(told: dict[str, Any]) -> str:
    if told["status"] != COMPLETED:
        said = " ".join(told["error"].split())[:SHOWN_LETTERS]
        return f"{told['status'].replace('_', ' ')} after {told['wall_seconds']:.0f} s: {said}"
    rates = sorted(told["series"]["tokens_per_second"])
    return f"{rates[len(rates) // 2]:,.0f} tokens/s, {told['wall_seconds']:.0f} s"


def _model(read: Read, places: Places, signals: Signals, say: Say) -> str:
    """The folder of the model that all rows begin with, made unless it is there; RunError where that fails."""
    folder = places.folder / "model"
    if not (folder / "config.json").is_file():
        say("Making the model that all rows begin with ...")
        suite, row = of_model(read.suite, read.recipe)
        run = places.folder / "runs" / "model"
        recipe = _prepared(suite, row, run, "")
        ended = _run(_ours(run), run, suite, recipe, signals)
        if signals.received:
            raise Stopped("stopped while the model was made; the same command makes it anew")
        if ended.status != COMPLETED:
            raise RunError(f"the model that all rows begin with could not be made: {ended.error}")
        (run / "model").rename(folder)
        shutil.rmtree(run)
    return str(folder)


def _measure(suite: Suite, row: Row, folder: Path, model: str, signals: Signals) -> dict[str, Any]:
    """One run of a row from its beginning."""
    recipe = _prepared(suite, row, folder, model)
    if row.peer is None:
        told = measured.of_run(_run(_ours(folder), folder, suite, recipe, signals), recipe, folder)
    elif why := peer.missing(row.peer):
        told = peer.of_run(Ended(FAILED, why, 0.0), recipe, folder)
    else:
        folder.mkdir()
        peer.write_work(recipe, _beside(folder, "json"))
        theirs = peer.command(row.peer, _beside(folder, "json"), folder, suite.threads)
        ended = _run(theirs, folder, suite, recipe, signals)
        told = peer.of_run(ended, recipe, folder)
    for name in _LARGE:
        shutil.rmtree(folder / name, ignore_errors=True)
    return told


def _prepared(suite: Suite, row: Row, folder: Path, model: str) -> Recipe:
    """The recipe of a run folder, in a file beside it; what an interrupted run left there goes first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    rows = str(made_rows.write(row.made, suite.seed, folder.parents[1])) if row.made else ""
    recipe = row.recipe(suite, Material(rows, model), str(folder))
    write_text(_beside(folder, "yaml"), dump(recipe))
    return recipe


def _beside(folder: Path, ending: str) -> Path:
    return folder.with_name(f"{folder.name}.{ending}")


def _ours(folder: Path) -> list[str]:
    """`shardtune train` of the recipe beside a run folder."""
    checkout = Path(__file__).resolve().parents[2] == Path.cwd()
    return [sys.executable, *([] if checkout else ["-P"]), "-m", "trainer", "train", str(_beside(folder, "yaml"))]


def _run(command: Sequence[str], folder: Path, suite: Suite, recipe: Recipe, signals: Signals) -> Ended:
    """A command to its end, its limit or a signal to this process."""
    tied = [sys.executable, "-I", "-S", lifeline.__file__, str(os.getpid()), *command]
    log, errors, began, at = _beside(folder, "log"), _beside(folder, "err"), time.monotonic(), time.time()
    with log.open("wb") as said, errors.open("wb") as wrong, _pinned(suite, recipe):
        process = subprocess.Popen(tied, stdin=subprocess.DEVNULL, stdout=said, stderr=wrong, start_new_session=True)
    late = False
    while process.poll() is None:
        late = time.monotonic() - began > suite.limit_seconds
        if late or signals.received:
            # Its workers die with it.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        else:
            time.sleep(POLL_SECONDS)
    wall = time.monotonic() - began
    if late:
        message = f"it took longer than limit_seconds: {suite.limit_seconds:g}; raise that, or make the row smaller"
        return Ended(TIMED_OUT, message, wall)
    status = STATUSES.get(process.returncode, FAILED)
    text = errors.read_text(encoding="utf-8", errors="replace").strip()
    if status != COMPLETED and not text:
        text = f"it ended with exit status {process.returncode} and no message; its log is {log}"
    return Ended(status, None if status == COMPLETED else text[-ERROR_LETTERS:], wall, at)


@contextmanager
def _pinned(suite: Suite, recipe: Recipe) -> Iterator[None]:
    """What is started within it stays on as many cores as its threads need, on a processor that has them."""
    own = os.sched_getaffinity(0)
    processes = recipe.launch.processes if isinstance(recipe.launch.processes, int) else 1
    wanted = suite.threads * processes
    if ranks.accelerators() == 0 and wanted < len(own):
        os.sched_setaffinity(0, sorted(own)[:wanted])
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)
