"""The real command on small real runs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MODEL = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


def write_recipe(folder: Path, **sections: Any) -> Path:
    """A recipe of a tiny new model over 48 rows, with `output` in the folder; sections are merged into it."""
    rows = folder / "rows.jsonl"
    if not rows.exists():
        lines = (
            json.dumps(
                {"prompt": f"What is {a} plus {b}?", "completion": f" {a} plus {b} is {a + b}, as {b} plus {a}."}
            )
            for a in range(8)
            for b in range(6)
        )
        rows.write_text("\n".join(lines) + "\n")
    recipe: dict[str, Any] = {
        "model": {"config": MODEL, "tokenizer": {"vocab_size": 320}, "dtype": "float32"},
        "data": {
            "train": [{"path": str(rows), "format": "completion"}],
            "validation": {"fraction": 0.2},
            "max_length": 64,
            "cache": False,
        },
        "optimizer": {"lr": 3e-3},
        "schedule": {"kind": "constant", "warmup": 0},
        "batch": {"micro": 4, "global": 8},
        "train": {"max_steps": 8, "epochs": 100, "threads": 1},
        "launch": {"processes": 1},
        "checkpoint": {"every": 5},
        "evaluate": {"every": 4},
        "log": {"every": 1, "tensorboard": False},
        "output": str(folder / "run"),
    }
    for name, section in sections.items():
        recipe[name] = {**recipe[name], **section} if isinstance(section, dict) and name in recipe else section
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe))  # JSON is YAML
    return path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "trainer", *arguments]


def shardtune(*arguments: str, path: str | None = None, seconds: float = 200) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end; `path` replaces PATH."""
    environment = dict(os.environ) | ({} if path is None else {"PATH": path})
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=seconds, env=environment)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def metrics(run: Path, split: str = "train") -> list[dict[str, Any]]:
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [event for event in events if event["split"] == split]


def first_validations(
    folder: Path, write: Callable[..., Path], processes: Sequence[int] = (1, 2, 3)
) -> list[dict[str, float]]:
    """The metrics of the untrained model, which is the same whatever the number of processes, by that number."""
    found = []
    for count in processes:
        own = folder / str(count)
        own.mkdir()
        sections = {"batch": {"micro": 2, "global": 12}, "train": {"max_steps": 1}, "launch": {"processes": count}}
        done = shardtune("train", str(write(own, **sections, engine={"kind": "torch"})))
        assert done.returncode == 0, done.stdout + done.stderr
        found.append(metrics(own / "run", "validation")[0]["metrics"])
    return found
