"""Small images, and rows that hold them."""

import io
from pathlib import Path
from typing import Any

import PIL.Image

from trainer.config.data import Source
from trainer.data.example import Example
from trainer.data.formats import parse
from trainer.data.images import MARK
from trainer.data.row import Row

RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(path: Path, colour: tuple[int, int, int] = RED, size: int = 8) -> Path:
    PIL.Image.new("RGB", (size, size), colour).save(path)
    return path


def content(kind: str, colour: tuple[int, int, int] = RED, size: int = 8) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (size, size), colour).save(file, kind)
    return file.getvalue()


def greys(path: Path, count: int) -> Path:
    """An animation whose frames are as grey as their number times ten."""
    frames = [PIL.Image.new("L", (8, 8), 10 * number) for number in range(count)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    return path


def read(folder: Path, values: dict[str, Any], *, answered: bool = True, **source: Any) -> Any:
    path = str(folder / "rows.jsonl")
    wanted = Source.model_validate({"path": path, "format": "image_text", **source})
    return parse(Row(path, 3, values), wanted, "data.train.1", answered=answered)


def contents(example: Example) -> list[str]:
    return [message["content"].replace(MARK, "#") for message in example.messages]


def said(problem: Any) -> str:
    assert not isinstance(problem, Example)
    assert str(problem.where).endswith("rows.jsonl:3")
    return str(problem.message)
