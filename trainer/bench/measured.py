"""What one run of a row measured, read from its run folder; the JSON of a row file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.bench.flops import cost
from trainer.config.recipe import Recipe

COMPLETED, FAILED, TIMED_OUT = "completed", "failed", "timed_out"
STATUSES = {0: COMPLETED, 2: "recipe_refused", 3: "data_refused", 4: "out_of_memory"}
"""How a run ended, by its exit status; what is not here failed."""
SERIES = ("step", "loss", "tokens", "targets", "positions", "squares", "tokens_per_second", "processor_seconds")
"""What metrics.jsonl tells of each step."""


@dataclass(frozen=True)
class Ended:
    """How the process of a run ended."""

    status: str
    error: str | None
    """What it said on standard error where it did not complete."""
    wall_seconds: float
    began: float = 0.0
    """When it was started, in seconds since the epoch."""


def outcome(ended: Ended, recipe: Recipe) -> dict[str, Any]:
    """What is told of every run, however it ended."""
    return {
        "status": ended.status,
        "error": ended.error,
        "wall_seconds": ended.wall_seconds,
        "recipe": recipe.model_dump(mode="json", by_alias=True),
    }


def of_run(ended: Ended, recipe: Recipe, run: Path) -> dict[str, Any]:
    """Everything that later steps need of a run, so that its folder may go."""
    content = outcome(ended, recipe)
    if ended.status != COMPLETED:
        return content
    summary, plan, environment = (
        json.loads((run / f"{name}.json").read_text(encoding="utf-8")) for name in ("summary", "plan", "environment")
    )
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if line["split"] == "train"]
    series = {name: [step[name] for step in steps] for name in SERIES}
    series["seconds"] = [step["tokens"] / step["tokens_per_second"] for step in steps]
    return {
        **content,
        "startup_seconds": summary["startup_seconds"],
        "memory_bytes": summary["memory_bytes"],
        "plan": {key: plan[key] for key in ("batch", "engine", "parameters", "choices")},
        "environment": environment,
        "model_flops": _flops(recipe, run, plan, series),
        "series": series,
        "result": _result(run, plan, summary),
    }


def _result(run: Path, plan: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a run left: the loss of its best validation, what trained, the bytes of weights, the certificate."""
    folder = next((run / name for name in ("adapter", "model") if (run / name).is_dir()), None)
    if folder is None:
        return None
    best = summary["best"]
    return {
        "validation_loss": None if best is None else best["loss"],
        "trainable": plan["parameters"]["trainable"],
        "nbytes": sum(file.stat().st_size for file in folder.glob("*.safetensors")),
        "difference": (summary["adapter"] or {}).get("difference"),
    }


def _flops(recipe: Recipe, run: Path, plan: Mapping[str, Any], series: Mapping[str, Any]) -> list[float] | None:
    """Operations of each step, over all processes."""
    model = cost(recipe, run, plan)
    if model is None:
        return None
    sizes = zip(series["tokens"], series["targets"], series["squares"], strict=True)
    return [model.of(*step) for step in sizes]
