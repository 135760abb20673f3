"""The programs that take jobs."""

import shlex
import subprocess
from collections.abc import Sequence

from trainer.errors import RunError


def run(command: Sequence[str]) -> str:
    """What a command says; RunError with its own words where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise RunError(f"{shlex.join(command)} failed: {said}")
    return done.stdout
