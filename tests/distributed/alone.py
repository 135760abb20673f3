"""The test process itself as the only rank of a run."""

import pytest


def as_only_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the launcher tells a worker that is alone; DeepSpeed asks for it."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
