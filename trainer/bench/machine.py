"""What a suite is measured on and of which sources, told without importing torch."""

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from trainer import ranks

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
"""What of a processor decides how fast its products are."""


def hardware() -> dict[str, Any]:
    """Processor, cores, memory, CUDA devices and system."""
    about = Path("/proc/cpuinfo")
    text = about.read_text(encoding="utf-8", errors="replace") if about.is_file() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    words = set(text.split())
    return {
        "processor": name[1] if name else platform.machine(),
        "features": [flag for flag in _FLAGS if flag in words],
        "cores": ranks.cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "devices": ranks.accelerators(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def sources() -> dict[str, Any]:
    """The commit of the checkout that runs, and whether its files are as committed; null where it is none."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return {"commit": None, "changed": None}
    commit, status = (_git(here, *words) for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno")))
    return {"commit": commit or None, "changed": None if status is None else bool(status)}


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
