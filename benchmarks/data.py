"""Measures what `shardtune` does to rows before training: speed, packing, memory; prints a table, writes a JSON.

python benchmarks/data.py benchmarks/data.yaml MODEL ROWS_FOLDER [--out FILE]
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoTokenizer

import trainer
from trainer.config.recipe import Recipe
from trainer.data import corpus, steps
from trainer.data.formats import examples
from trainer.data.packing import packing_efficiency, padding_waste, rank_balance
from trainer.data.sources import train_sources


def main() -> None:
    """Runs every part of the suite."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", type=Path)
    parser.add_argument("model")
    parser.add_argument("rows", type=Path)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    suite = yaml.safe_load(asked.suite.read_text(encoding="utf-8"))
    result = {
        "machine": {"processor": platform.processor() or platform.machine(), "python": platform.python_version()},
        "shardtune": trainer.__version__,
        "suite": suite,
        "tokenise": [tokenise(asked, rows, suite["rounds"]) for rows in suite["tokenise"]],
        "packing": [packing(asked, rows) for rows in suite["packing"]],
        "memory": [
            memory(asked, size, streaming=streaming)
            for streaming in (False, True)
            for size in suite["memory"]["megabytes"]
        ],
    }
    for part in ("tokenise", "packing", "memory"):
        for row in result[part]:
            print(part, json.dumps(row))
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def recipe_of(asked: Any, rows: dict[str, Any], **data: Any) -> Recipe:
    """A recipe over one source of the suite, all rows for training."""
    source = {key: value for key, value in rows.items() if key in ("path", "format", "fields")}
    source["path"] = str(asked.rows / source["path"])
    settings = {"train": [source], "validation": None, "cache": False, "max_length": 1024, **data}
    return Recipe.model_validate({"model": {"name": asked.model}, "data": settings, "batch": rows.get("batch", {})})


def tokenise(asked: Any, rows: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Seconds of the preparation and of the tokenizer alone on the same texts, and their ratio, by round.

    `processor` counts all processes and threads; `wall` also what others on this machine do meanwhile.
    """
    recipe = recipe_of(asked, rows)
    tokenizer = AutoTokenizer.from_pretrained(asked.model)
    talks = [list(row.messages) for key, source in train_sources(recipe.data) for row in examples(key, source)]
    texts = tokenizer.apply_chat_template(talks, tokenize=False)
    measured: dict[str, list[dict[str, float]]] = {"encode_batch": [], "preparation": []}
    for _ in range(rounds + 1):
        with timed(measured["encode_batch"]):
            tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
        with tempfile.TemporaryDirectory() as folder, timed(measured["preparation"]):
            corpus.prepare(recipe, tokenizer, Path(folder))
    # The first round warms both up.
    alone, whole = (measured[name][1:] for name in ("encode_batch", "preparation"))
    ratios = {
        clock: [one[clock] / other[clock] for one, other in zip(alone, whole, strict=True)]
        for clock in ("processor", "wall")
    }
    return {
        "rows": rows["path"],
        "texts": len(texts),
        "encode_batch_seconds": alone,
        "preparation_seconds": whole,
        "ratio_median": {clock: statistics.median(some) for clock, some in ratios.items()},
        "ratio_range": {clock: [min(some), max(some)] for clock, some in ratios.items()},
    }


@contextmanager
def timed(seconds: list[dict[str, float]]) -> Iterator[None]:
    """Adds what passes within it, by clock."""
    began, used = time.perf_counter(), processor_seconds()
    yield
    seconds.append({"processor": processor_seconds() - used, "wall": time.perf_counter() - began})


def processor_seconds() -> float:
    """Of this process, its threads and the children that ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def packing(asked: Any, rows: dict[str, Any]) -> dict[str, Any]:
    """How full packed rows are, and how even over two ranks; padding without packing."""
    recipe = recipe_of(asked, rows, max_length=rows["max_length"])
    tokenizer = AutoTokenizer.from_pretrained(asked.model)
    with tempfile.TemporaryDirectory() as folder:
        train = corpus.prepare(recipe, tokenizer, Path(folder)).train
        assert train is not None, "the rows of the suite are no stream"
        shape = steps.layout(recipe, tokenizer)
        padded = steps.layout(recipe_of(asked, rows, max_length=rows["max_length"], packing=False), tokenizer)
        return {
            "rows": rows["path"],
            "batch": rows["batch"],
            "efficiency": packing_efficiency(train.lengths, shape, 1),
            "balance_of_two_ranks": rank_balance(train.lengths, shape, 2),
            "padding_without_packing": padding_waste(train.lengths, padded),
        }


PREPARE = """
import json, resource, sys, tempfile
from pathlib import Path
from transformers import AutoTokenizer
from trainer.config.recipe import Recipe
from trainer.data import corpus, steps
recipe = Recipe.model_validate_json(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
tokenizer.backend_tokenizer.encode_batch(["one", "two"])
def memory():
    found = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {name: int(found[name].split()[0]) / 2**10 for name in ("VmHWM", "VmRSS")}
# The peak so far is forgotten.
Path("/proc/self/clear_refs").write_text("5")
before = memory()["VmRSS"]
tokens = 0
with tempfile.TemporaryDirectory() as folder:
    made = corpus.prepare(recipe, tokenizer, Path(folder))
    tokens = made.manifest.train_tokens or 0
    if recipe.data.streaming:
        reading = steps.training(recipe, tokenizer, None, Path(folder), None)
        number, window = 0, reading.window(0)
        while window.epoch < 1:
            tokens += sum(batch.tokens for batch in window.batches)
            number, window = number + 1, reading.window(number + 1)
        reading.close()
own, workers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
used = sum(some.ru_utime + some.ru_stime for some in (own, workers))
print(json.dumps({
    "peak_above_imports_mib": memory()["VmHWM"] - before,
    "imports_mib": before,
    "peak_of_a_worker_mib": workers.ru_maxrss / 2**10,
    "tokens": tokens,
    "processor_seconds": used,
}))
"""


def memory(asked: Any, megabytes: int, *, streaming: bool) -> dict[str, Any]:
    """Peak resident memory above the imported process, in MiB, for a file made of the rows, each with its number."""
    rows = yaml.safe_load(asked.suite.read_text(encoding="utf-8"))["tokenise"][0]
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large.jsonl"
        content = (asked.rows / rows["path"]).read_text(encoding="utf-8")
        write_large(large, [json.loads(line) for line in content.splitlines()], megabytes * 2**20)
        held_out = {"streaming": True} if streaming else {"validation": {"fraction": 0.05}}
        recipe = recipe_of(asked, {**rows, "path": large}, **held_out)
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", PREPARE, recipe.model_dump_json(by_alias=True), asked.model],
            check=True,
            capture_output=True,
            text=True,
        )
        measured = json.loads(done.stdout.splitlines()[-1])
        seconds = {"wall_seconds": time.perf_counter() - began}
        return {"megabytes": megabytes, "streaming": streaming, **measured, **seconds}


def write_large(path: Path, rows: list[dict[str, str]], size: int) -> None:
    """A file of so many bytes, or a few more; no two of its rows are the same."""
    name = next(iter(rows[0]))
    with path.open("w", encoding="utf-8") as file:
        for number in itertools.count():
            row = rows[number % len(rows)]
            file.write(json.dumps({**row, name: f"{number}. {row[name]}"}, ensure_ascii=False) + "\n")
            if file.tell() >= size:
                return


if __name__ == "__main__":
    main()
