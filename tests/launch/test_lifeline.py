"""The tie between a process and its parent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from trainer.launch import lifeline


def test_a_process_whose_parent_is_already_another_ends_itself() -> None:
    code = "import os; from trainer.launch import lifeline; lifeline.die_with_parent(os.getppid() + 1); print('alive')"
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == -signal.SIGKILL
    assert result.stdout == ""


def test_a_tied_command_keeps_its_arguments_and_its_status() -> None:
    tied = [sys.executable, lifeline.__file__, str(os.getpid()), "sh", "-c", "exit $0", "7"]
    assert subprocess.run(tied, check=False).returncode == 7
