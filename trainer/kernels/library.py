"""Compiles the C sources beside it at their first use, keeps the result in the user's cache, and calls it."""

import ctypes
import fcntl
import hashlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from trainer import ranks

SOURCES = ("rows.c", "attention.c")
_HEADERS = ("rows.h",)
# Sums may be reordered, but infinities and NaN keep their meaning; the result is linked without these flags, because
# GCC's fast-math start-up code would flush denormals in the whole process.
_FLAGS = "-O3 -march=native -fno-math-errno -fno-trapping-math -fno-signed-zeros -fassociative-math -fopenmp -fPIC"
_C_TYPES = {"int64_t": ctypes.c_int64, "int": ctypes.c_int, "float": ctypes.c_float}
_PROTOTYPE = re.compile(r"^void (\w+)\(([^)]*)\) \{", re.MULTILINE)

TYPES = {torch.float32: 0, torch.bfloat16: 1}
"""The types that the kernels read and write, by their number there."""


_switch = {"on": True}


def turn(*, on: bool) -> None:
    """Lets kernels serve in this process, or not, whatever the machine has."""
    _switch["on"] = on


@contextmanager
def turned_off() -> Iterator[None]:
    """Torch's own operations within it."""
    before = _switch["on"]
    turn(on=False)
    try:
        yield
    finally:
        turn(on=before)


def turned_on() -> bool:
    """Whether kernels serve where they can."""
    return _switch["on"] and lacking() is None


def serve(tensor: torch.Tensor) -> bool:
    """Whether the kernels are here, turned on, and read this tensor."""
    return tensor.device.type == "cpu" and tensor.dtype in TYPES and turned_on()


def lacking() -> str | None:
    """Why there are no kernels on this machine; None where there are."""
    library = _library()
    return library if isinstance(library, str) else None


def call(name: str, *values: torch.Tensor | int | float | None) -> None:
    """Runs one kernel; tensors go as the address of their first value."""
    library = _library()
    assert not isinstance(library, str), library
    getattr(library, name)(*(value.data_ptr() if isinstance(value, torch.Tensor) else value for value in values))


@cache
def _library() -> ctypes.CDLL | str:
    """The loaded library, or why there is none."""
    compiler = ranks.compiler()
    if compiler is None:
        return "no C++ compiler is found (apt install g++)"
    here = Path(__file__).parent
    texts = {name: (here / name).read_text(encoding="utf-8") for name in (*SOURCES, *_HEADERS)}
    try:
        path = _built(compiler, texts)
        library = ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return f"{compiler} does not compile them: {said.strip().splitlines()[0]}"
    for name in SOURCES:
        for function, parameters in _PROTOTYPE.findall(texts[name]):
            getattr(library, function).argtypes = [_c_type(one) for one in parameters.split(",")]
            getattr(library, function).restype = None
    return library


def _c_type(parameter: str) -> type:
    """The type of one parameter of a C prototype."""
    return ctypes.c_void_p if "*" in parameter else _C_TYPES[parameter.split()[0]]


def _built(compiler: str, texts: dict[str, str]) -> Path:
    """The shared library of these sources for this processor and compiler; made where it is not there yet."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    key = hashlib.blake2b("\0".join((*texts.values(), _FLAGS, version, _processor())).encode(), digest_size=12)
    folder = ranks.cache_folder() / "kernels"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key.hexdigest()}.so"
    # All ranks of a machine come here at once.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _compile(compiler, path)
    return path


def _compile(compiler: str, path: Path) -> None:
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        objects = []
        for name in SOURCES:
            objects.append(str(Path(scratch) / f"{name}.o"))
            _tell([compiler, "-x", "c", *_FLAGS.split(), "-c", str(here / name), "-o", objects[-1]])
        made = Path(scratch) / "made.so"
        _tell([compiler, "-shared", *objects, "-lgomp", "-lm", "-o", str(made)])
        made.replace(path)


def _tell(command: list[str]) -> None:
    subprocess.run(command, capture_output=True, text=True, check=True)


def _processor() -> str:
    """What this processor can do, for whom the code is made."""
    about = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    return "\n".join(
        sorted({line for line in about.splitlines() if line.startswith(("flags", "Features", "model name"))})
    )
