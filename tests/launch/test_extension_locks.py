"""Locks of builds that were killed."""

from pathlib import Path

import pytest

from trainer.launch import extension_locks


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    (tmp_path / "fused_adam").mkdir()
    return tmp_path


def test_a_lock_that_nobody_holds_is_removed(builds: Path) -> None:
    lock = builds / "fused_adam/lock"
    lock.touch()
    assert extension_locks.stale() == [lock]
    assert extension_locks.remove_stale() == [lock]
    assert not lock.exists()


def test_the_lock_of_a_build_that_goes_on_stays(builds: Path) -> None:
    with (builds / "fused_adam/lock").open("w"):
        assert extension_locks.remove_stale() == []
    assert (builds / "fused_adam/lock").exists()


def test_without_builds_there_is_nothing_to_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "none"))
    assert extension_locks.remove_stale() == []


def test_locks_are_looked_for_where_torch_builds(builds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.cpp_extension import get_default_build_root

    from trainer import ranks

    assert ranks.extensions_folder() == builds
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR")
    assert str(ranks.extensions_folder()) == get_default_build_root()
