import os
import time
from pathlib import Path

import pytest

from trainer.data.cache import DAYS_UNFINISHED, DAYS_UNUSED, Cache


def fill(folder: Path, said: str = "whole") -> bool:
    (folder / "a.txt").write_text(said)
    return True


def age(folder: Path, days: float) -> Path:
    """Makes a folder look as if nobody had touched it for so long."""
    then = time.time() - days * 24 * 3600
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_made_once_is_found(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    assert cache.find("k") is None

    made = cache.make("k", fill)

    assert made == cache.find("k") == tmp_path / "cache" / "k"
    assert names(tmp_path / "cache") == ["k"] and (made / "a.txt").read_text() == "whole"


def test_what_is_of_no_use_is_not_kept(tmp_path: Path) -> None:
    assert Cache(tmp_path).make("k", lambda folder: not fill(folder)) is None
    assert names(tmp_path) == []


def test_nothing_is_left_of_what_could_not_be_written(tmp_path: Path) -> None:
    def full(folder: Path) -> bool:
        fill(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        Cache(tmp_path).make("k", full)
    assert names(tmp_path) == []


def test_of_two_runs_at_once_the_first_to_end_is_taken(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def slower(folder: Path) -> bool:
        cache.make("k", lambda other: fill(other, "first"))
        return fill(folder, "second")

    made = cache.make("k", slower)

    assert names(tmp_path) == ["k"]
    assert made is not None and (made / "a.txt").read_text() == "first"


def test_what_nobody_used_for_a_month_goes(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for key, days in {"old": DAYS_UNUSED + 1, "young": DAYS_UNUSED - 1, "used": DAYS_UNUSED + 1}.items():
        cache.make(key, fill)
        age(tmp_path / key, days)
    cache.find("used")

    cache.tidy()

    assert names(tmp_path) == ["used", "young"]


def test_what_was_left_unfinished_goes_after_a_day(tmp_path: Path) -> None:
    for name, days in {".left": DAYS_UNFINISHED + 0.1, ".begun": DAYS_UNFINISHED + 0.1, ".new": 0.5}.items():
        (tmp_path / name).mkdir()
        fill(tmp_path / name)
        age(tmp_path / name, days)
    # It is being written: the folder is old, its file is not.
    os.utime(tmp_path / ".begun" / "a.txt")

    Cache(tmp_path).tidy()

    assert names(tmp_path) == [".begun", ".new"]


def test_others_can_be_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for key in ("a", "b", "c"):
        cache.make(key, fill)

    cache.keep({"b"})

    assert names(tmp_path) == ["b"]


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "none")
    cache.tidy()
    assert cache.find("k") is None and not (tmp_path / "none").exists()
