"""Measures what `shardtune` does to rows before training: speed, packing, memory; prints a table, writes a JSON.

python benchmarks/data.py SUITE MODEL ROWS_FOLDER [--out FILE]
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
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
        "memory": [memory(asked, size) for size in suite["memory"]["megabytes"]],
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
    """Texts a second of the preparation and of the tokenizer alone on the same texts, and their ratio by round."""
    recipe = recipe_of(asked, rows)
    tokenizer = AutoTokenizer.from_pretrained(asked.model)
    talks = [list(row.messages) for key, source in train_sources(recipe.data) for row in examples(key, source)]
    texts = tokenizer.apply_chat_template(talks, tokenize=False)
    alone, whole = [], []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
        alone.append(time.perf_counter() - began)
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            corpus.prepare(recipe, tokenizer, Path(folder))
            whole.append(time.perf_counter() - began)
    # The first round warms both up.
    ratios = [one / other for one, other in zip(alone[1:], whole[1:], strict=True)]
    return {
        "rows": rows["path"],
        "texts": len(texts),
        "encode_batch_seconds": alone[1:],
        "preparation_seconds": whole[1:],
        "ratio_median": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }


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
import resource, sys, tempfile
from pathlib import Path
from transformers import AutoTokenizer
from trainer.config.recipe import Recipe
from trainer.data import corpus
recipe = Recipe.model_validate_json(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with tempfile.TemporaryDirectory() as folder:
    corpus.prepare(recipe, tokenizer, Path(folder))
own, workers = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(own - before, workers)
"""


def memory(asked: Any, megabytes: int) -> dict[str, Any]:
    """Peak resident memory above the imported process, in MiB, and tokens a second, for a file made of the rows."""
    rows = yaml.safe_load(asked.suite.read_text(encoding="utf-8"))["tokenise"][0]
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large.jsonl"
        content = (asked.rows / rows["path"]).read_bytes()
        with large.open("wb") as file:
            for _ in range(max(1, megabytes * 2**20 // len(content))):
                file.write(content)
        recipe = recipe_of(asked, {**rows, "path": large})
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", PREPARE, recipe.model_dump_json(by_alias=True), asked.model],
            check=True,
            capture_output=True,
            text=True,
        )
        own, child = (int(size) / 2**10 for size in done.stdout.split()[-2:])
        return {
            "megabytes": megabytes,
            "peak_above_imports_mib": own,
            "peak_of_a_worker_mib": child,
            "seconds": time.perf_counter() - began,
        }


if __name__ == "__main__":
    main()
