"""The C sources are compiled once a machine; without a compiler torch's own operations run."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from trainer.kernels import library

TELL = "from trainer.kernels import library; print(library.lacking())"


def lacking(cache: Path, **environment: str) -> str:
    own = {**os.environ, "XDG_CACHE_HOME": str(cache), **environment}
    done = subprocess.run([sys.executable, "-c", TELL], env=own, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_two_processes_at_once_compile_once(tmp_path: Path) -> None:
    own = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    both = [subprocess.Popen([sys.executable, "-c", TELL], env=own, stdout=subprocess.PIPE, text=True) for _ in "ab"]

    assert [process.communicate()[0].strip() for process in both] == ["None", "None"]
    (made,) = (tmp_path / "shardtune" / "kernels").glob("*.so")
    before = made.stat().st_mtime_ns
    assert lacking(tmp_path) == "None"
    assert made.stat().st_mtime_ns == before


def test_without_a_compiler_the_way_out_is_told(tmp_path: Path) -> None:
    assert lacking(tmp_path, PATH="", CXX="") == "no C++ compiler is found (apt install g++)"


def test_a_compiler_that_fails_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\n[ $1 = --version ] && exit\necho no such option >&2\nexit 1\n", encoding="utf-8")
    broken.chmod(0o755)

    assert lacking(tmp_path, CXX=str(broken)) == f"{broken} does not compile them: no such option"


def test_turned_off_they_serve_no_tensor() -> None:
    tensor = torch.zeros(1)
    assert library.serve(tensor)

    with library.turned_off():
        assert not library.serve(tensor)

    assert library.serve(tensor)
    assert not library.serve(tensor.double())
