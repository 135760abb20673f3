"""The story of a suite: begin or go on, run every row, write what came out."""

import json
from pathlib import Path
from typing import Any

from trainer.bench import page, result, runner, table
from trainer.bench.reading import Read
from trainer.bench.result import Peaks
from trainer.bench.runner import Places, Say
from trainer.errors import Problem, RunError, SuiteError
from trainer.plan.files import write_json, write_text

BEGUN, RESULT, TABLE, PAGE = "suite.json", "result.json", "RESULTS.md", "page.html"


def measure(read: Read, folder: Path, command: str, say: Say) -> dict[str, Any]:
    """The result of a suite, kept in a folder with its table and its page; a stopped one goes on row by row."""
    places = Places(folder)
    start = _begin(result.begun(read.suite, read.recipe, command), folder)
    try:
        runner.run(read, places, say)
    finally:
        # Also after a stop: what is there so far.
        runs = [places.results(index, row, read.suite.rounds) for index, row in enumerate(read.rows)]
        content = result.of_suite(start, read.suite, read.rows, runs, Peaks(read.suite))
        write_json(folder / RESULT, content)
        write_text(folder / TABLE, table.markdown(content))
        page.write(content, folder / PAGE)
    return content


def load(path: Path) -> dict[str, Any]:
    """The result that a file holds, or a folder of a suite; RunError where it is none."""
    file = path / RESULT if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{file}: cannot be read ({error.strerror}); name the folder of a measured suite") from None
    except ValueError:
        raise RunError(f"{file}: is not JSON; name the result.json of a measured suite") from None
    if not isinstance(content, dict) or content.get("format") != result.FORMAT:
        raise RunError(f"{file}: is no result of this version of shardtune bench; measure it anew")
    return content


def _begin(now: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What a folder was begun with, which is what holds now; SuiteError where it is something else."""
    file = folder / BEGUN
    if not file.is_file():
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise _another(folder, "holds something else than the results of a suite")
        folder.mkdir(parents=True, exist_ok=True)
        write_json(file, now)
        return now
    before: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    for key, name in (("suite", "other settings"), ("sources", "another commit"), ("hardware", "another machine")):
        if before.get(key) != json.loads(json.dumps(now[key])):
            raise _another(folder, f"was begun with {name} ({_first_difference(before.get(key), now[key])})")
    return before


def _another(folder: Path, why: str) -> SuiteError:
    return SuiteError([Problem("--out", f"{folder} {why}; name another folder, or remove it")])


def _first_difference(before: Any, now: Any) -> str:
    """The first key that differs, and how."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != json.loads(json.dumps(now.get(key))):
                inner = _first_difference(before.get(key), now.get(key))
                return f"{key}.{inner}" if isinstance(now.get(key), dict) else f"{key}{inner}"
    return f": {before} then, {now} now"
