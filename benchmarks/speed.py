"""Tokens a processor second and peak memory of a training step, each optimisation on and off; prints a table.

python benchmarks/speed.py SUITE MODEL ROWS [--out FILE]
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

PACKAGES = ("shardtune", "torch", "transformers", "peft")


def main() -> None:
    """Runs every variant of a suite in a process of its own, round by round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", type=Path)
    parser.add_argument("model")
    parser.add_argument("rows", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one is not None:
        print(json.dumps(measure(asked.model, asked.rows, json.loads(asked.one))))
        return
    suite = yaml.safe_load(asked.suite.read_text(encoding="utf-8"))
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in suite["variants"]}
    for _ in range(suite["rounds"]):
        for name, overrides in suite["variants"].items():
            runs[name].append(_run(asked, {"steps": suite["steps"], **(overrides or {})}))
            print(name, json.dumps(runs[name][-1]), file=sys.stderr)
    rows = [_summary(name, of_name, runs[suite["base"]]) for name, of_name in runs.items()]
    print(_table(rows))
    if asked.out:
        machine = {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version()}
        versions = {package: metadata.version(package) for package in PACKAGES}
        result = {"machine": machine, "versions": versions, "commit": _commit(), "suite": suite, "results": rows}
        asked.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _run(asked: argparse.Namespace, overrides: dict[str, Any]) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **overrides.pop("environment", {})}
    command = [sys.executable, __file__, str(asked.suite), asked.model, str(asked.rows), "--one", json.dumps(overrides)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def measure(model: str, rows: Path, overrides: dict[str, Any]) -> dict[str, Any]:
    """Steps of one recipe in this process: the first two warm up."""
    import resource
    import tempfile
    import time

    import torch

    from trainer.adapter.methods import METHODS
    from trainer.config.recipe import Recipe
    from trainer.data import corpus, steps
    from trainer.data import tokenizer as tokenizers
    from trainer.engine import build as engines
    from trainer.engine import module as modules
    from trainer.model.load import load
    from trainer.plan import plan as plans
    from trainer.strategy import strategies
    from trainer.tasks.kinds import TASKS

    def resident() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

    count = overrides.pop("steps")
    recipe = Recipe.model_validate(_settings(model, rows, overrides))
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = tokenizers.load(recipe, Path(folder))
        prepared = corpus.prepare(recipe, tokenizer, Path(folder))
        windows = steps.training(recipe, tokenizer, prepared.train, Path(folder), None)
        work = [windows.window(step) for step in range(count)]
        windows.close()
    plan = plans.make(recipe, prepared.manifest, vocabulary=len(tokenizer), processes=1)
    imported = resident()
    engine = engines.build(recipe, plan, torch.device("cpu"), None)
    body = METHODS[recipe.adapter.kind](load(recipe, tokenizer, engine.loading()), recipe, range(0)).model
    strategies.freeze(body, recipe.strategy.kind)
    task, losses, rates = TASKS[recipe.task.kind](recipe, tokenizer, prepared), [], []
    modules.build(recipe, plan, task, body, engine, lambda text: print(text, file=sys.stderr))
    for window in work:
        began = time.process_time()
        learned = task.counts(window.batches)["loss"]
        last = len(window.batches) - 1
        terms = [
            engine.forward_backward(batch, {"loss": 1 / learned}, index == last)
            for index, batch in enumerate(window.batches)
        ]
        engine.step(recipe.optimizer.lr)
        rates.append((sum(batch.tokens for batch in window.batches), time.process_time() - began))
        losses.append(sum(float(term["loss"]) for term in terms) / learned)
    tokens, seconds = (sum(values) for values in zip(*rates[2:], strict=True))
    return {
        "tokens_per_processor_second": tokens / seconds,
        "peak_above_imports_mib": resident() - imported,
        "losses": losses,
    }


def _settings(model: str, rows: Path, overrides: dict[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "model": {"name": model, "dtype": "float32"},
        "data": {"train": [{"path": str(rows), "format": "chat"}], "validation": None, "max_length": 1024}
        | {"shuffle": False},
        "optimizer": {"lr": 1e-4},
        "batch": {"micro": 8, "global": 8},
        "train": {"max_steps": 100, "precision": "bfloat16"},
        "engine": {"kind": "torch"},
    }
    for section, keys in overrides.items():
        settings[section] = {**settings.get(section, {}), **keys}
    return settings


def _summary(name: str, runs: list[dict[str, Any]], base: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over rounds, and the ratio to the base of the same round."""
    whole = [(one, other) for one, other in zip(runs, base, strict=True) if "error" not in one and "error" not in other]
    if not whole:
        return {"variant": name, "error": next((one["error"] for one in runs if "error" in one), "the base failed")}
    key = "tokens_per_processor_second"
    ratios = [one[key] / other[key] for one, other in whole]
    return {
        "variant": name,
        key: statistics.median(one[key] for one, _ in whole),
        "ratio_to_base": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "peak_above_imports_mib": statistics.median(one["peak_above_imports_mib"] for one, _ in whole),
        "last_loss": whole[0][0]["losses"][-1],
    }


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| variant | tokens a processor second | ratio (range) | peak MiB above imports | last loss |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        if "error" in row:
            lines.append(f"| {row['variant']} | {row['error']} | | | |")
            continue
        low, high = row["ratio_range"]
        lines.append(
            f"| {row['variant']} | {row['tokens_per_processor_second']:.0f} | {row['ratio_to_base']:.2f} "
            f"({low:.2f} to {high:.2f}) | {row['peak_above_imports_mib']:.0f} | {row['last_loss']:.5f} |"
        )
    return "\n".join(lines)


def _processor() -> str:
    about = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in about if line.startswith("model name")]
    kinds = [
        flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if any(f" {flag}" in line for line in about)
    ]
    return f"{names[0] if names else platform.machine()} ({', '.join(kinds)})"


def _commit() -> str:
    here = Path(__file__).parent
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
