"""The engines that whole runs are tried on."""

from typing import Any

import pytest

ENGINES: dict[str, dict[str, Any]] = {
    "torch": {"engine": {"kind": "torch"}, "launch": {"processes": 1}},
    "ddp": {"engine": {"kind": "torch"}, "launch": {"processes": 2}},
    "zero2": {"engine": {"kind": "deepspeed", "zero": 2}, "launch": {"processes": 2}},
    "zero3": {"engine": {"kind": "deepspeed", "zero": 3}, "launch": {"processes": 2}},
}


def each(*quick: str, slow: tuple[str, ...] = ()) -> list[Any]:
    """Parameters of a fixture by names of engines."""
    return [*quick, *(pytest.param(name, marks=pytest.mark.slow) for name in slow)]
