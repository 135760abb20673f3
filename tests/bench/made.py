"""Results of runs that nobody ran, with numbers that a test can foresee."""

from collections.abc import Sequence
from typing import Any

from trainer.bench import result
from trainer.bench.result import Peaks
from trainer.bench.row import Row, rows_of
from trainer.bench.suite import Suite

MODEL = {"config": {"model_type": "llama", "hidden_size": 64}, "tokenizer": {"vocab_size": 512}}


def suite(**settings: Any) -> Suite:
    """Rows a and b, of which a is the reference, in three rounds of four measured steps."""
    given = {
        "name": "made",
        "recipe": {"model": MODEL},
        "variants": {"a": None, "b": {"data": {"packing": False}}},
        "reference": "a",
        "steps": {"warm_up": 1, "measured": 4},
        **settings,
    }
    return Suite.model_validate(given)


def run(
    rate: float, *, memory: int = 600, loss: float = 2.0, device: str = "cpu", flops: bool = True
) -> dict[str, Any]:
    """A run of five steps of 100 tokens in 125 positions, half of them learned; the first one is ten times as slow."""
    seconds = [1000 / rate, *[100 / rate] * 4]
    return {
        "status": "completed",
        "error": None,
        "wall_seconds": 10.0,
        "recipe": {"train": {}},
        "startup_seconds": 4.0,
        "memory_bytes": {"allocated": None, "reserved": None, "resident": memory * 2**20, "imports": 400 * 2**20},
        "plan": {"batch": {"ranks": 2}, "engine": {"precision": "bfloat16"}, "parameters": {}, "choices": []},
        "environment": {"device": device, "packages": {"torch": "2.13.0", "scipy": None}},
        "model_flops": [1e9] * 5 if flops else None,
        "series": {
            "step": [1, 2, 3, 4, 5],
            "loss": [loss] * 5,
            "tokens": [100] * 5,
            "targets": [50] * 5,
            "positions": [125] * 5,
            "squares": [2500] * 5,
            "tokens_per_second": [100 / one for one in seconds],
            "seconds": seconds,
            "processor_seconds": [one / 2 for one in seconds],
        },
    }


def failed(status: str = "out_of_memory", error: str = "memory ran out") -> dict[str, Any]:
    """A run that did not complete."""
    return {"status": status, "error": error, "wall_seconds": 3.0, "recipe": {"train": {}}}


def of(own: Suite, runs: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """The result of a suite whose rows had these runs."""
    rows: list[Row] = rows_of(own, {"model": MODEL})
    start = {
        "format": result.FORMAT,
        "shardtune": "0.1.0",
        "sources": {"commit": "0123456789abcdef", "changed": False},
        "command": "shardtune bench made",
        "suite": own.model_dump(mode="json", by_alias=True),
        "hardware": {
            "processor": "A Processor",
            "features": ["avx2"],
            "cores": 2,
            "memory_bytes": 2**34,
            "devices": 0,
            "system": "Linux",
            "python": "3.11.7",
        },
    }
    return result.of_suite(start, own, rows, runs, Peaks(own))
