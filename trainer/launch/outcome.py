"""What a run tells after its end: each worker its error to the launcher, the launcher the user's summary.json."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.errors import (
    DataError,
    OutOfMemoryError,
    Problem,
    ProblemsError,
    RecipeError,
    RunError,
    ShardtuneError,
    Stopped,
)

LOGS = "logs"
SUMMARY = "summary.json"

_PROBLEMS: dict[int, type[ProblemsError]] = {kind.status: kind for kind in (RecipeError, DataError)}
_MESSAGES: dict[int, type[ShardtuneError]] = {kind.status: kind for kind in (OutOfMemoryError, RunError, Stopped)}


def write(folder: Path, rank: int, error: ShardtuneError) -> None:
    """Leaves a worker's error where its launcher looks for it; the worker then exits with `error.status`."""
    path = _path(folder, rank)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content_of(error))


def content_of(error: ShardtuneError) -> dict[str, Any]:
    """An error as it is written."""
    problems = error.problems if isinstance(error, ProblemsError) else None
    return {
        "status": error.status,
        "title": error.title if isinstance(error, ProblemsError) else "",
        "problems": [[problem.where, problem.message] for problem in problems] if problems else None,
        "message": str(error),
    }


def read(folder: Path, rank: int) -> ShardtuneError | None:
    """The error that a worker left, as the class it was; None where it left none that can be read."""
    return read_file(_path(folder, rank))


def read_file(path: Path) -> ShardtuneError | None:
    """The error that a file holds, as the class it was; None where it holds none that can be read."""
    return error_of(content_at(path))


def error_of(content: Mapping[str, Any]) -> ShardtuneError | None:
    """The error that was written as this; None where it is none."""
    try:
        status, message = int(content["status"]), str(content["message"])
        problems = [Problem(str(where), str(text)) for where, text in content["problems"] or ()]
    except (ValueError, KeyError, TypeError):
        return None
    if problems and status in _PROBLEMS:
        return _PROBLEMS[status](problems)
    return _MESSAGES.get(status, RunError)(message)


def errors(folder: Path) -> dict[int, ShardtuneError]:
    """What workers of this start left, by rank."""
    numbers = (path.name.removeprefix("rank-").partition(".")[0] for path in (folder / LOGS).glob("rank-*.error.json"))
    return {int(number): error for number in numbers if (error := read(folder, int(number))) is not None}


def clear(folder: Path) -> None:
    """Removes the errors of earlier starts."""
    for pattern in ("rank-*.error.json", "failed/node-*.json"):
        for path in (folder / LOGS).glob(pattern):
            path.unlink(missing_ok=True)


def summary_mark(folder: Path) -> tuple[int, int] | None:
    """What changes when summary.json is written anew; None where there is none."""
    try:
        facts = (folder / SUMMARY).stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns


def write_summary(folder: Path, error: ShardtuneError, before: tuple[int, int] | None) -> None:
    """Says in summary.json how the run ended; what rank 0 wrote there since `before` was taken stays."""
    status = "stopped" if isinstance(error, Stopped) else "failed"
    ours = {"status": status, "error": str(error), "exit_status": error.status}
    replace_file(folder / SUMMARY, ours | (summary(folder) if summary_mark(folder) != before else {}))


def summary(folder: Path) -> dict[str, Any]:
    """What summary.json holds; nothing where there is none that can be read."""
    return content_at(folder / SUMMARY)


def content_at(path: Path) -> dict[str, Any]:
    """The mapping that a JSON file holds; an empty one where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _path(folder: Path, rank: int) -> Path:
    return folder / LOGS / f"rank-{rank}.error.json"


def replace_file(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a whole file or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
