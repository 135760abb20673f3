"""A row that another trainer runs: a script of benchmarks/peers, in an environment that make.py there made."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer import ranks
from trainer.bench.measured import COMPLETED, FAILED, Ended, outcome
from trainer.config.recipe import Recipe
from trainer.data.reading import read_all
from trainer.errors import DataError, Problem, did_you_mean
from trainer.plan.files import write_json

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "peers"
"""In a checkout; a wheel is without it."""
ENVIRONMENTS = ranks.cache_folder() / "peers"
KEY = "peer"
"""Beside the sections of a recipe: which trainer runs it."""
_WITHOUT = ("env", "-u", "PYTHONPATH", "-u", "VIRTUAL_ENV")
_OFFLINE = ("HF_HUB_OFFLINE=1", "HF_DATASETS_OFFLINE=1", "DO_NOT_TRACK=1", "TOKENIZERS_PARALLELISM=false")


def problem(name: Any) -> str | None:
    """Why a trainer cannot be named so; None where it can."""
    known = sorted(script.stem.removeprefix("run_") for script in FOLDER.glob("run_*.py"))
    if not known:
        return "other trainers are run in a checkout of the sources, from benchmarks/peers; take one, or leave it out"
    return None if name in known else f"{name!r} is no trainer of benchmarks/peers{did_you_mean(str(name), known)}"


def missing(name: str) -> str | None:
    """What to do where the environment of a trainer is not made; None where it is."""
    return None if _python(name).exists() else f"it has no environment yet: python benchmarks/peers/make.py {name}"


def command(name: str, recipe: Path, folder: Path, threads: int) -> list[str]:
    """The command that runs a recipe, which stands in a file as JSON, and leaves what it measured in a folder.

    Nothing of our own Python reaches it; it asks no network, and has so many threads.
    """
    own = [*_OFFLINE, f"OMP_NUM_THREADS={threads}", f"MKL_NUM_THREADS={threads}"]
    return [*_WITHOUT, *own, str(_python(name)), str(FOLDER / f"run_{name}.py"), str(recipe), str(folder)]


def write_work(recipe: Recipe, place: Path) -> None:
    """A recipe as JSON, with its rows as conversations in a file beside it; DataError for rows that are none."""
    rows, content = place.with_suffix(".jsonl"), recipe.model_dump(mode="json", by_alias=True)
    with rows.open("w", encoding="utf-8") as file:
        for number, source in enumerate(recipe.data.train):
            for example in read_all(recipe.task, f"data.train.{number}", source):
                if isinstance(example, Problem):
                    raise DataError([example])
                file.write(json.dumps({"messages": list(example.messages)}, ensure_ascii=False) + "\n")
    content["data"]["train"] = [{"path": str(rows), "format": "chat"}]
    write_json(place, content)


def of_run(ended: Ended, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """What it measured, as `measured.of_run` tells it of ours; what a trainer does not tell is null."""
    content = outcome(ended, recipe)
    if ended.status != COMPLETED:
        return content
    if not (folder / "peer.json").is_file():
        return {**content, "status": FAILED, "error": "it ended without a word, and before it had measured its steps"}
    told: Mapping[str, Any] = json.loads((folder / "peer.json").read_text(encoding="utf-8"))
    steps = [json.loads(line) for line in (folder / "steps.jsonl").read_text(encoding="utf-8").splitlines()]
    names = ("step", "loss", "tokens", "positions", "seconds", "processor_seconds")
    series: dict[str, Any] = {name: [step[name] for step in steps] for name in names}
    series["tokens_per_second"] = [step["tokens"] / step["seconds"] for step in steps]
    return {
        **content,
        "startup_seconds": told["first_forward"] - ended.began,
        "memory_bytes": {"allocated": None, "reserved": None, **told["memory_bytes"]},
        "plan": None,
        "environment": {"packages": told["packages"]},
        "model_flops": None,
        "series": {**series, "targets": None, "squares": None},
    }


def _python(name: str) -> Path:
    return ENVIRONMENTS / name / "bin" / "python"
