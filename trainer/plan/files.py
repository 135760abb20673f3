"""Small files of a run folder, written whole or not at all."""

import json
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Writes beside, then renames: a reader never sees a half."""
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def write_json(path: Path, content: Any) -> None:
    """The content as indented JSON."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
