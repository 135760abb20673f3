"""What training a part of a model, or one part after the other, comes to: the same rows, three seeds, two tables.

python benchmarks/layerwise.py headlines ./all-MiniLM-L6-v2 headlines.jsonl
python benchmarks/layerwise.py gsm8k ./SmolLM2-135M-Instruct gsm8k.jsonl
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SEEDS = (0, 1, 2)
HEADLINES: dict[str, list[str]] = {
    "full": [],
    "partial, last 2": ["strategy={kind: partial, last: 2}"],
    "layerwise": ["strategy={kind: layerwise}"],
    "layerwise, layer_decay 0.9": ["strategy={kind: layerwise}", "optimizer.layer_decay=0.9"],
    "discriminative, last 4": ["strategy={kind: discriminative, last: 4}"],
}
GSM8K: dict[str, list[str]] = {
    "full": ["optimizer.lr=5.0e-5", "adapter={kind: none}"],
    "LoRA": [],
    "lisa, 2 layers, every 4": ["optimizer.lr=5.0e-5", "adapter={kind: none}", "strategy={kind: lisa, every: 4}"],
    "partial, last 4": ["optimizer.lr=5.0e-5", "adapter={kind: none}", "strategy={kind: partial, last: 4}"],
}
COMMON = {
    "headlines": ["data.max_length=64", "train.epochs=8", "evaluate.every=25"],
    "gsm8k": ["train.epochs=1", "evaluate={every: 16}", "optimizer.lr=5.0e-4"],
}
WORK: dict[str, tuple[str, dict[str, list[str]], tuple[int, int, int], str, str]] = {
    "headlines": ("classify", HEADLINES, (500, 500, 2000), "accuracy", "format: text"),
    "gsm8k": (
        "gsm8k",
        GSM8K,
        (256, 64, 128),
        "loss",
        "format: instruction, fields: {instruction: question, output: answer}",
    ),
}
"""Recipe, methods, rows for training, validation and test, what is told of the test rows, and how rows are read."""


def main() -> None:
    """Trains each method with each seed and prints its row when the last is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=WORK)
    parser.add_argument("model")
    parser.add_argument("rows", type=Path)
    asked = parser.parse_args()
    recipe, methods, sizes, metric, form = WORK[asked.work]
    lines = asked.rows.read_text(encoding="utf-8").splitlines(keepends=True)
    random.Random(0).shuffle(lines)
    with tempfile.TemporaryDirectory() as scratch:
        folder, first, sources = Path(scratch), 0, []
        for split, size in zip(("train", "validation", "test"), sizes, strict=True):
            (folder / f"{split}.jsonl").write_text("".join(lines[first : first + size]), encoding="utf-8")
            sources.append(f"data.{split}=[{{path: {folder / split}.jsonl, {form}}}]")
            first += size
        print(f"| method | test {metric}, mean (lowest to highest) | seconds | peak GiB |\n|---|---|---|---|")
        for name, keys in methods.items():
            given = [f"model.name={asked.model}", *sources, *COMMON[asked.work], *keys]
            print(_row(name, [_run(recipe, folder, seed, given, metric) for seed in SEEDS]), flush=True)


def _run(recipe: str, folder: Path, seed: int, keys: list[str], metric: str) -> tuple[float, dict[str, Any]]:
    """The metric of the test rows, and the summary."""
    output = Path(tempfile.mkdtemp(dir=folder))
    path = Path(__file__).parents[1] / "trainer" / "recipes" / f"{recipe}.yaml"
    own = [f"output={output}", f"train.seed={seed}", "checkpoint.keep=1", "log.tensorboard=false"]
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "train", str(path), *keys, *own], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    events = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    (test,) = [event for event in events if event["split"] == "test"]
    return {"loss": test["loss"], **(test["metrics"] or {})}[metric], json.loads((output / "summary.json").read_text())


def _row(name: str, runs: list[tuple[float, dict[str, Any]]]) -> str:
    values = [value for value, _ in runs]
    seconds, memory = (statistics.mean(one[key] for _, one in runs) for key in ("wall_seconds", "peak_memory_bytes"))
    spread = f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
    return f"| {name} | {spread} | {seconds:.0f} | {memory / 2**30:.2f} |"


if __name__ == "__main__":
    main()
