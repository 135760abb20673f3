"""Locks that killed builds of compiled ops left behind: torch would wait for them for ever, in silence."""

import contextlib
import os
import time
from pathlib import Path

from trainer import ranks

_RELEASE_SECONDS = 0.1


def stale() -> list[Path]:
    """Build locks of this user that no process of this machine holds."""
    found = _unheld(_locks())
    if found:
        # A builder closes its lock an instant before it removes it.
        time.sleep(_RELEASE_SECONDS)
        found = _unheld([path for path in found if path.exists()])
    return found


def remove_stale() -> list[Path]:
    """Removes them, so that the next build begins at once."""
    paths = stale()
    for path in paths:
        path.unlink(missing_ok=True)
    return paths


def _locks() -> list[Path]:
    folder = ranks.extensions_folder()
    found = []
    for path in (*folder.glob("*/lock"), *folder.glob("*/*/lock")):
        with contextlib.suppress(OSError):
            if path.is_file() and path.stat().st_uid == os.getuid():
                found.append(path)
    return sorted(found)


def _unheld(paths: list[Path]) -> list[Path]:
    """The files that no process has open: torch keeps its lock open while it builds."""
    if not paths:
        return []
    held = set()
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            facts = entry.stat()
            held.add((facts.st_dev, facts.st_ino))
    free = []
    for path in paths:
        with contextlib.suppress(OSError):
            facts = path.stat()
            if (facts.st_dev, facts.st_ino) not in held:
                free.append(path)
    return free
