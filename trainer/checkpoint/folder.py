"""The checkpoints of a run folder: written beside, renamed when whole, so that a kill leaves the last good one.

checkpoints/step-00000200/state.json      counters of the run, and which engine on how many processes wrote it
checkpoints/step-00000200/files.json      size and SHA-256 of every other file
checkpoints/step-00000200/...             what the engine wrote
checkpoints/best -> step-00000100
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainer import ranks
from trainer.checkpoint.listing import of_step, steps_of
from trainer.checkpoint.whole import discard
from trainer.engine.engine import Engine, Shards
from trainer.errors import RunError


def save(run: Path, engine: Engine, state: dict[str, Any]) -> Path:
    """The checkpoint of `state["step"]`, whole or not at all; all ranks call it."""
    target = of_step(run, int(state["step"]))
    if ranks.is_main():
        _empty(_unfinished(target))
    ranks.barrier()
    try:
        engine.save_state(_unfinished(target))
        ranks.barrier()
        if ranks.is_main():
            _seal(target, state, engine.shards)
    except (OSError, RuntimeError) as error:
        raise _failure(target, run, error) from error
    ranks.barrier()
    return target


def write(run: Path, shards: Shards, state: dict[str, Any], fill: Callable[[Path], None]) -> Path:
    """The same by this process alone, of what `fill` writes into a folder; it may be another thread that does it."""
    target = of_step(run, int(state["step"]))
    try:
        _empty(_unfinished(target))
        fill(_unfinished(target))
        _seal(target, state, shards)
    except (OSError, RuntimeError) as error:
        raise _failure(target, run, error) from error
    return target


def _unfinished(target: Path) -> Path:
    return target.with_name(f".{target.name}")


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _seal(target: Path, state: dict[str, Any], shards: Shards) -> None:
    """Writes what tells that a checkpoint is whole, and gives it its name."""
    unfinished = _unfinished(target)
    _write_json(unfinished / "files.json", {name: _fingerprint(unfinished / name) for name in _files(unfinished)})
    _write_json(unfinished / "state.json", {**state, "shards": asdict(shards)})
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    _sync(target.parent)


def _failure(target: Path, run: Path, error: BaseException) -> RunError:
    """Why a checkpoint could not be written; what there is of it is removed."""
    discard(_unfinished(target))
    held = steps_of(run)
    kept = f"; the checkpoint of step {held[-1]} is whole" if held else ""
    step = int(target.name.rpartition("-")[2])
    return RunError(f"the checkpoint of step {step} could not be written: {_reason(error, run)}{kept}")


def newest_whole(run: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose files are as they were written, and what is wrong with newer ones."""
    damaged: list[str] = []
    for step in reversed(steps_of(run)):
        folder = of_step(run, step)
        wrong = _damage(folder)
        if wrong is None:
            return folder, damaged
        damaged.append(f"{folder.name} is damaged and left out: {wrong}")
    return None, damaged


def read_state(folder: Path) -> dict[str, Any]:
    """The counters that a checkpoint holds."""
    content: dict[str, Any] = json.loads((folder / "state.json").read_text())
    return content


def mark_best(run: Path, step: int) -> None:
    """Lets `best` point to the checkpoint of a step."""
    link = run / "checkpoints" / "best"
    fresh = link.with_name(".best")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(of_step(run, step).name)
    fresh.replace(link)


def prune(run: Path, keep: int, best: int | None) -> None:
    """Removes all but the newest `keep` checkpoints and the best one."""
    for step in steps_of(run)[:-keep]:
        if step != best:
            shutil.rmtree(of_step(run, step), ignore_errors=True)


def _files(folder: Path) -> Iterator[str]:
    return (str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file())


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "sha256": digest}


def _damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files; None where all are as they were written."""
    try:
        expected = json.loads((folder / "files.json").read_text())
        json.loads((folder / "state.json").read_text())
    except (OSError, ValueError) as error:
        return f"files.json or state.json does not read ({type(error).__name__})"
    for name, wanted in expected.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != wanted["bytes"]:
            return f"{name} has {path.stat().st_size:,} bytes, not {wanted['bytes']:,}"
        if _fingerprint(path) != wanted:
            return f"{name} is not what was written (its SHA-256 differs)"
    return None


def _write_json(path: Path, content: Any) -> None:
    with path.open("w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: BaseException, run: Path) -> str:
    """Why a file could not be written; torch's own writer does not say that the disk is full."""
    free = shutil.disk_usage(run).free
    room = f" ({free / 2**20:,.0f} MiB are free in {run})" if free < 2**30 else ""
    said = str(error).splitlines()[0]
    if isinstance(error, RuntimeError) and "inline_container" in said:
        said = "torch could not write its file, as where no space is left on the device"
    return f"{said}{room}"
