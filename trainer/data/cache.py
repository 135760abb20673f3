"""Folders by key, made once for all runs that ask for the same; what nobody used for a month goes."""

import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

DAYS_UNUSED = 30
DAYS_UNFINISHED = 1
_DAY = 24 * 60 * 60.0


class Cache:
    """The folders below one folder. A key stands for all that its content depends on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str) -> Path | None:
        """The folder of a key, which is used from now on; None where nobody has made it."""
        place = self.folder / key
        try:
            os.utime(place)
        except FileNotFoundError:
            return None
        return place

    def make(self, key: str, fill: Callable[[Path], bool]) -> Path | None:
        """A new folder of a key, filled by `fill`, which says whether it is of use; None where it is not.

        It takes its place when it is whole. Where another run has made it meanwhile, that one's is taken. OSError where
        it cannot be written; nothing is left of it then.
        """
        place, unfinished = self.folder / key, self.folder / f".{key}.{secrets.token_hex(4)}"
        try:
            unfinished.mkdir(parents=True)
            if not fill(unfinished):
                return None
            try:
                unfinished.rename(place)
            except OSError:
                if not place.is_dir():
                    raise
            return place
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def tidy(self) -> None:
        """Removes what nobody used for a month, and what was left unfinished a day ago."""
        for place in self._places():
            days = DAYS_UNFINISHED if place.name.startswith(".") else DAYS_UNUSED
            if time.time() - _last_change(place) > days * _DAY:
                self._remove(place)

    def keep(self, keys: Collection[str]) -> None:
        """Removes all but the folders of these keys."""
        for place in self._places():
            if place.name not in keys:
                self._remove(place)

    def _places(self) -> list[Path]:
        return [place for place in self.folder.iterdir() if place.is_dir()] if self.folder.is_dir() else []

    def _remove(self, place: Path) -> None:
        # It goes in one step, so that nobody finds half of it.
        going = self.folder / f".{secrets.token_hex(4)}"
        with suppress(FileNotFoundError):
            place.rename(going)
        shutil.rmtree(going, ignore_errors=True)


def _last_change(folder: Path) -> float:
    """Seconds since the epoch; of a folder that is being written, those of its newest file."""
    with suppress(FileNotFoundError):
        return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    return time.time()
