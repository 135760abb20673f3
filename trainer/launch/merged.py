"""`logs/all.log`: what all ranks wrote in the last start, each line once with the ranks that wrote it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from trainer.launch import outcome
from trainer.launch.worker import STARTED
from trainer.meeting import ranges

FILE = "all.log"
MOST_BYTES = 2**20
"""Of one rank; the end counts."""


def merge(folder: Path) -> None:
    """Writes it, or leaves it out where the disk has no room."""
    lines: dict[str, list[int]] = {}
    for rank, path in sorted(_logs(folder / outcome.LOGS)):
        for line in dict.fromkeys(_last_start(path)):
            lines.setdefault(line, []).append(rank)
    text = "".join(f"[{ranges(ranks)}] {line}\n" for line, ranks in lines.items())
    with suppress(OSError):
        (folder / outcome.LOGS / FILE).write_text(text, encoding="utf-8")


def _logs(folder: Path) -> Iterator[tuple[int, Path]]:
    for path in folder.glob("rank-*.log"):
        number = path.stem.removeprefix("rank-")
        if number.isdigit():
            yield int(number), path


def _last_start(path: Path) -> Iterator[str]:
    """The lines of the last start; of one that is drawn over and over, its last state."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - MOST_BYTES))
        held = file.read().rpartition(STARTED.encode())[2].partition(b"\n")[2]
        for line in held.decode("utf-8", errors="replace").split("\n"):
            if said := line.rstrip().rpartition("\r")[2]:
                yield said
