"""A confusion matrix as a picture: labels down, what was said in their place across, each row shaded by its shares."""

from typing import Any
from unicodedata import normalize

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trainer.tasks.class_table import ClassTable

MOST = 40
"""Labels up to which a picture can be read."""
_CELL, _PAD, _CHARACTERS = 46, 10, 18
_INK, _PAPER, _PALE, _DEEP = (31, 41, 55), (255, 255, 255), (243, 244, 246), (29, 78, 216)


def picture(table: ClassTable) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """Red, green and blue [height, width, 3]; None where there are too many labels, or no matrix."""
    matrix, count = table.confusion, len(table.names)
    if matrix is None or count > MOST:
        return None
    font = ImageFont.load_default(13)
    names = [_short(name) or f"#{number}" for number, name in enumerate(table.names)]
    margin = int(max(font.getlength(name) for name in names)) + 2 * _PAD
    top = margin + 18
    image = Image.new("RGB", (margin + count * _CELL + _PAD, top + count * _CELL + _PAD), _PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((_PAD, _PAD), "label, and what was said", fill=_INK, font=font)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    for row, name in enumerate(names):
        middle = top + row * _CELL + _CELL // 2
        draw.text((margin - _PAD, middle), name, fill=_INK, font=font, anchor="rm")
        _draw_upright(image, name, font, margin + row * _CELL + _CELL // 2, top - 6)
        for column in range(count):
            left, share = margin + column * _CELL, float(shares[row, column])
            box = (left, top + row * _CELL, left + _CELL - 2, top + (row + 1) * _CELL - 2)
            draw.rectangle(box, fill=_shade(share))
            ink = _PAPER if share > 0.5 else _INK
            draw.text((left + _CELL // 2 - 1, middle - 1), _number(int(matrix[row, column])), ink, font, anchor="mm")
    return np.asarray(image)


def _draw_upright(image: Image.Image, name: str, font: Any, middle: int, bottom: int) -> None:
    """A name from the bottom to the top."""
    length = int(font.getlength(name)) + 2
    label = Image.new("RGB", (length, 18), _PAPER)
    ImageDraw.Draw(label).text((0, 9), name, fill=_INK, font=font, anchor="lm")
    image.paste(label.rotate(90, expand=True), (middle - 9, bottom - length))


def _shade(share: float) -> tuple[int, int, int]:
    red, green, blue = (round(light + (deep - light) * share) for light, deep in zip(_PALE, _DEEP, strict=True))
    return red, green, blue


def _number(count: int) -> str:
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"


def _short(name: str) -> str:
    # The letters that Pillow's own font has.
    plain = normalize("NFKD", name).encode("ascii", "ignore").decode()
    flat = " ".join(plain.split())
    return flat if len(flat) <= _CHARACTERS else flat[: _CHARACTERS - 2] + ".."
