"""A folder that is whole or not there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from trainer.errors import RunError


def discard(folder: Path) -> None:
    """Removes an unfinished folder, and frees its room at once, also that of files which failed writers still hold."""
    for path in folder.rglob("*"):
        with suppress(OSError):
            os.truncate(path, 0)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` that takes its place when the block ends well; else the former one stays."""
    unfinished = folder.with_name(f".{folder.name}")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        yield unfinished
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    except RunError:
        discard(unfinished)
        raise
    except (OSError, SafetensorError) as error:
        discard(unfinished)
        raise RunError(
            f"{folder} could not be written: {str(error).splitlines()[0]}; the last checkpoint is whole, and the same"
            f" command writes the {folder.name} from it"
        ) from error
