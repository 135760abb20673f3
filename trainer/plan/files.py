"""Small files of a run folder, written whole or not at all."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Writes beside, then renames: a reader never sees a half."""
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """A line at a time, likewise; what raises meanwhile leaves nothing behind."""
    unfinished = path.with_name(f".{path.name}")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """The content as indented JSON."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
