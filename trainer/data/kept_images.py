"""The images of stored rows: by reference, or in a folder of the store where the rows hold them themselves."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.data.facts import Column, Numbers
from trainer.data.images import Image

IMAGES = "(images)"
"""The column of their references; no file has one of this name."""
_FOLDER = "images"


def kept(image: Image, held: dict[str, bytes]) -> list[Any]:
    """What JSON keeps of an image; what it consists of joins `held`, by digest, where no file or server has it."""
    place: str | None = None
    if isinstance(image.content, bytes):
        place = hashlib.blake2b(image.content, digest_size=16).hexdigest()
        held[place] = image.content
    elif image.content is not None:
        place = str(image.content.resolve())
    return [image.name, place, image.frame, image.frames]


def write_kept(folder: Path, held: Mapping[str, bytes]) -> None:
    """Puts what images consist of into the folder of a store, each once."""
    for digest, content in held.items():
        (folder / _FOLDER).mkdir(exist_ok=True)
        (folder / _FOLDER / digest).write_bytes(content)


@dataclass(frozen=True)
class KeptImages:
    """The images of the examples of a split."""

    column: Column
    """The references of N rows."""
    row: Numbers
    """The row of each example [M]."""
    folder: Path
    """That of the store."""

    def of(self, example: int) -> tuple[Image, ...]:
        """The images of one example in order."""
        held = self.column.values[self.column.codes[self.row[example]]]
        return tuple(
            Image(name, None if place is None else self.folder / _FOLDER / place, frame, frames)
            for name, place, frame, frames in held
        )
