"""Recipes over small files, for the tests of this folder and for the pair's ranks."""

import json
from pathlib import Path
from typing import Any

from trainer.config.recipe import Recipe
from trainer.data import corpus, tokenizer
from trainer.errors import ProblemsError


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def completions(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"{number} plus {number} is", "completion": f" {2 * number}."} for number in range(count)]


def recipe(*paths: Path, format: str = "completion", seed: int = 0, **data: Any) -> Recipe:
    train = [{"path": str(path), "format": format} for path in paths]
    return Recipe.model_validate(
        {
            "model": {"config": {"model_type": "llama"}, "tokenizer": {"vocab_size": 400}},
            "data": {"train": train, "cache": False, **data},
            "train": {"seed": seed},
        }
    )


def prepare(wanted: Recipe, folder: Path) -> corpus.Corpus:
    return corpus.prepare(wanted, tokenizer.load(wanted, folder), folder)


def prepare_on_this_rank(path: str, folder: str) -> list[str]:
    """What is wrong, or the rows that this rank sees."""
    try:
        prepared = prepare(recipe(Path(path)), Path(folder))
    except ProblemsError as error:
        return [type(error).__name__, *(str(problem) for problem in error.problems)]
    return [str(prepared.train.tokens(row).tolist()) for row in range(len(prepared.train))]
