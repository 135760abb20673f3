"""The lock of a run folder."""

import os
import subprocess
from pathlib import Path

import pytest

from trainer.errors import RecipeError
from trainer.launch.lock import FILE, hold


def test_the_lock_file_names_the_process(tmp_path: Path) -> None:
    with hold(tmp_path / "new" / "run"):
        assert (tmp_path / "new/run" / FILE).read_text() == f"{os.getpid()}\n"


def test_a_held_folder_names_the_process_and_the_way_out(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(RecipeError) as raised, hold(tmp_path):
        pass
    pid = os.getpid()
    assert str(raised.value) == (
        f"output: {tmp_path} holds a run that is alive (process {pid}); "
        f"wait for its end, stop it with `kill {pid}`, or set another output"
    )


def test_the_lock_lasts_as_long_as_a_process_that_inherited_it(tmp_path: Path) -> None:
    with hold(tmp_path) as descriptor:
        heir = subprocess.Popen(["sleep", "30"], pass_fds=[descriptor])
    with pytest.raises(RecipeError), hold(tmp_path):
        pass
    heir.kill()
    heir.wait()
    with hold(tmp_path):
        pass


def test_workers_that_outlive_their_launcher_are_said_to_be_ending(tmp_path: Path) -> None:
    with hold(tmp_path):
        ended = subprocess.Popen(["true"])
        ended.wait()
        (tmp_path / FILE).write_text(f"{ended.pid}\n")
        with pytest.raises(RecipeError, match="try again in a moment"), hold(tmp_path):
            pass
