"""What this machine and this environment have, what is missing, and how to get it; no package is imported to tell."""

import platform
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer import ranks
from trainer.errors import EXIT_DONE, RecipeError
from trainer.launch import extension_locks

DISTRIBUTION = "shardtune"

_GIB = 2**30
_MIB = 2**20
_NEEDED_FOR = {
    "bitsandbytes": "4-bit and 8-bit weights, 8-bit optimizers",
    "datasets": "tables of rows",
    "deepspeed": "ZeRO over several processes",
    "numpy": "batches",
    "packaging": "this check",
    "peft": "adapters",
    "pydantic": "recipes",
    "pyyaml": "recipes",
    "rich": "the terminal",
    "safetensors": "weights on disk",
    "tensorboard": "plots of a run",
    "tokenizers": "text to tokens",
    "torch": "all computing",
    "transformers": "models and tokenizers",
    "typer": "the command line",
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked for."""

    name: str
    found: str | None
    """What is there, such as a version; None where nothing is."""
    ok: bool
    needed_for: str
    how: str
    """How to get it; empty where nothing has to be done."""
    required: bool = False
    """Nothing runs without it."""


def facts() -> list[Check]:
    """Every check of this machine and this environment, in the order they are shown."""
    return [*_packages(), *_tools(), *_machine()]


def status(checks: Sequence[Check]) -> int:
    """The exit status: 0, or 2 where something required is missing."""
    return RecipeError.status if any(check.required and not check.ok for check in checks) else EXIT_DONE


def to_json(checks: Sequence[Check]) -> dict[str, Any]:
    """The checks as a JSON object; `ok` is false where something required is missing."""
    return {"ok": status(checks) == EXIT_DONE, "checks": [asdict(check) for check in checks]}


def render(checks: Sequence[Check], console: Console) -> None:
    """Prints a table of what is there, then one line for each thing to do."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("", "what", "found", "for"):
        table.add_column(title, header_style="dim", overflow="fold")
    for check in checks:
        sign, style = _sign(check)
        table.add_row(
            Text(sign, style), check.name, Text(check.found or "missing", style), Text(check.needed_for, "dim")
        )
    todo = [Text.assemble("  ", (check.name, "bold"), f": {check.how}") for check in checks if not check.ok]
    ready = status(checks) == EXIT_DONE
    verdict = "Ready to train." if ready else "Not ready: what is marked ✗ has to be mended first."
    console.print(table, "", Text(verdict, "bold green" if ready else "bold red"), sep="\n")
    if todo:
        console.print("To do, where it is wanted:" if ready else "To do:", *todo, sep="\n", soft_wrap=True)


def _sign(check: Check) -> tuple[str, str]:
    if check.ok:
        return "✓", "green"
    return ("✗", "red") if check.required else ("!", "yellow")


def _packages() -> Iterator[Check]:
    """The interpreter, and what our own distribution asks for."""
    try:
        own = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        yield Check(
            DISTRIBUTION, None, False, "everything", "install it: pip install -e . in its folder", required=True
        )
        return
    yield Check(DISTRIBUTION, own.version, True, "everything", "", required=True)
    wanted = own.metadata["Requires-Python"]
    fits = SpecifierSet(wanted).contains(platform.python_version(), prereleases=True)
    how = "" if fits else f"make a new environment with Python {wanted}"
    yield Check("python", platform.python_version(), fits, "everything", how, required=True)
    for text in own.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _package(requirement)
    yield _namesake()


def _package(requirement: Requirement) -> Check:
    """One package, and whether its version is in our range."""
    name = requirement.name.lower()
    purpose = _NEEDED_FOR.get(name, "a part of shardtune")
    how = f'pip install "{requirement.name}{requirement.specifier}"'
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Check(name, None, False, purpose, how, required=True)
    if not requirement.specifier.contains(version, prereleases=True):
        return Check(name, f"{version} (not {requirement.specifier})", False, purpose, how, required=True)
    return Check(name, version, True, purpose, "", required=True)


def _namesake() -> Check:
    """PyPI has an unrelated distribution called trainer, whose files overwrite ours."""
    purpose = "no other package named trainer"
    try:
        version = metadata.version("trainer")
    except metadata.PackageNotFoundError:
        return Check("import trainer", "ours alone", True, purpose, "", required=True)
    how = f"pip uninstall trainer, then pip install --force-reinstall --no-deps {DISTRIBUTION}"
    return Check("import trainer", f"also trainer {version} of PyPI", False, purpose, how, required=True)


def _tools() -> Iterator[Check]:
    """What code for this machine is built with; without it torch's own operations are used."""
    purpose = "compiled ops of DeepSpeed"
    compiler = ranks.compiler()
    yield Check(
        "C++ compiler",
        compiler,
        compiler is not None,
        "kernels for the processor, compiled ops of DeepSpeed",
        "" if compiler else "apt install g++ (without it torch's own operations are used)",
    )
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    there = headers.is_file()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    yield Check(
        "Python headers",
        str(headers.parent) if there else None,
        there,
        purpose,
        "" if there else f"apt install python{version}-dev",
    )
    ninja = shutil.which("ninja", path=str(Path(sys.executable).parent)) or shutil.which("ninja")
    yield Check("ninja", ninja, ninja is not None, purpose, "" if ninja else "pip install ninja")
    stale = extension_locks.stale()
    yield Check(
        "build locks",
        f"{len(stale)} left by killed builds" if stale else "none left",
        not stale,
        "builds that nothing waits for",
        f"rm {' '.join(str(path) for path in stale)} (a local run does it by itself)" if stale else "",
    )


def _machine() -> Iterator[Check]:
    """Devices, memory and disks."""
    yield _devices()
    yield Check("cores", str(ranks.cores()), True, "processes and data", "")
    memory = _memory()
    how = "" if memory >= 4 * _GIB else "4 GiB carry the demo; a model needs its own: shardtune plan tells"
    yield Check("memory", _size(memory), memory >= 4 * _GIB, "the run", how)
    free = shutil.disk_usage(Path.cwd()).free
    how = "" if free >= 5 * _GIB else "free some space, or set output to a folder on another disk"
    yield Check("disk", f"{_size(free)} free here", free >= 5 * _GIB, "checkpoints", how)
    shared = Path("/dev/shm")
    size = shutil.disk_usage(shared).total if shared.is_dir() else 0
    how = "" if size >= 512 * _MIB else "start the container with --shm-size=2g"
    yield Check("/dev/shm", _size(size), size >= 512 * _MIB, "ranks on one machine (nccl)", how)


def _devices() -> Check:
    count = ranks.accelerators()
    purpose = "speed; gloo on the CPU without"
    if count == 0:
        return Check("CUDA devices", "none, the CPU is used", True, purpose, "")
    try:
        plain = metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        plain = False
    how = "this torch is a CPU build: pip install --force-reinstall torch, from the index that pytorch.org names"
    return Check("CUDA devices", str(count), not plain, purpose, how if plain else "")


def _memory() -> int:
    """Bytes that this process may use: the machine's, or the container's where that is less."""
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    total = int(line.split()[1]) * 1024
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(total, int(text)) if text.isdigit() else total


def _size(count: int) -> str:
    return f"{count / _GIB:.1f} GiB" if count >= _GIB else f"{count / _MIB:.0f} MiB"
