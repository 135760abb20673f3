"""Which checkpoints a run folder holds; imports nothing heavy, so that it can be asked before a start."""

import re
from pathlib import Path

_NAME = re.compile(r"step-(\d{8})")


def of_step(run: Path, step: int) -> Path:
    """The folder of the checkpoint of one step."""
    return run / "checkpoints" / f"step-{step:08d}"


def steps_of(run: Path) -> list[int]:
    """Steps that have a checkpoint, in order."""
    names = (_NAME.fullmatch(path.name) for path in (run / "checkpoints").glob("step-*"))
    return sorted(int(match.group(1)) for match in names if match)
