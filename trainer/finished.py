"""What a finished run is asked: how well it does on rows, and what it says to others; on one device."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from trainer.adapter.finished import load_finished
from trainer.config.data import Source
from trainer.config.data_rules import ANSWERED
from trainer.config.load import load
from trainer.config.recipe import Recipe
from trainer.data import asked, steps
from trainer.data import corpus as corpora
from trainer.data import tokenizer as tokenizers
from trainer.data.answers import answer, several
from trainer.data.encoded import Encoded
from trainer.data.example import Example
from trainer.data.result import result_of
from trainer.engine import build as engines
from trainer.engine.still import Still
from trainer.errors import Problem, RecipeError
from trainer.loop.callback import EvaluationMetrics
from trainer.loop.evaluate import evaluate
from trainer.loop.state import State
from trainer.model.load import DTYPES
from trainer.tasks.kinds import PREDICTORS, TASKS
from trainer.tasks.objective import Asked, HasHeads

TOGETHER = 64
"""Rows that are predicted at a time."""


@dataclass(frozen=True)
class Finished:
    """A finished run."""

    recipe: Recipe
    """Its own, with settings above it; its rows are padded here."""
    result: Path
    tokenizer: PreTrainedTokenizerBase

    @property
    def compute(self) -> torch.dtype | None:
        """The type of products where weights have another."""
        wanted = self.recipe.train.precision
        return None if wanted in ("auto", self.recipe.model.dtype) else DTYPES[wanted]


def open_run(run: Path, settings: Sequence[str]) -> Finished:
    """The run of a folder; RecipeError where it is not finished or the settings are wrong."""
    result = result_of(run, "RUN")
    recipe = load(run / "recipe.yaml", [*settings, "data.packing=false"])
    transformers_logging.disable_progress_bar()
    return Finished(recipe, result, tokenizers.of_result(recipe, result))


def measure(
    run: Finished, split: str | None, file: Path | None, task: str | None = None
) -> tuple[str, EvaluationMetrics]:
    """The name of the rows and what is measured of them: a split of the run, or the rows of a file in its format.

    RecipeError where the run has no such rows, DataError where they are wrong.
    """
    recipe = run.recipe
    if file is not None:
        split = "test"
        recipe = _with_data(recipe, test=(_like_training(recipe, file, task),))
    with tempfile.TemporaryDirectory(prefix="shardtune-evaluate-") as folder:
        corpus = corpora.prepare(recipe, run.tokenizer, Path(folder))
        objective = TASKS[recipe.task.kind](recipe, run.tokenizer, corpus)
        windows = steps.held_out(recipe, run.tokenizer, corpus.held_out(), objective.collate)
        split = split or ("test" if "test" in windows else "validation")
        if split not in windows:
            message = f"has no {split} rows: its data.{split} is null; name a file of rows with --input"
            raise RecipeError([Problem("RUN", message)])
        device = engines.device()
        model = load_finished(recipe, run.result, len(run.tokenizer), device)
        module = objective.module(model, run.compute, whole=True)
        if isinstance(objective, HasHeads):
            objective.restore(module, run.result)
        engine = Still(module, device)
        return str(file or split), evaluate(engine, objective, windows[split], State(), recipe.evaluate)


def predict(run: Finished, file: Path, task: str | None = None) -> Iterator[dict[str, Any]]:
    """What the run says to each row of a file, in its order, with the file's name and the line; rows need no answers.

    DataError where more rows are wrong than `data.max_bad_rows`; those that may be are told with `why`.
    """
    recipe, source = run.recipe, _like_training(run.recipe, file, task)
    rows = asked.examples(recipe, source)
    says = _says(run, source)
    # A language model sorts them by length itself.
    together = TOGETHER if recipe.task.kind in PREDICTORS else max(1, len(rows))
    for start in range(0, len(rows), together):
        some = rows[start : start + together]
        said = iter(says([row for row in some if isinstance(row, Example)]))
        for row in some:
            told = next(said) if isinstance(row, Example) else {"why": row.message}
            yield {"source": row.source, "line": row.line, **told}


def n_best(run: Finished, file: Path, count: int) -> Iterator[dict[str, Any]]:
    """Several answers of a language model to each row of a file, the likeliest first, as rows to rerank.

    RecipeError where the run writes no answers; DataError as `predict` has it.
    """
    recipe, source = run.recipe, _like_training(run.recipe, file, None)
    _check_answers(run, source, "--n-best")
    rows = asked.examples(recipe, source)
    sound = [row for row in rows if isinstance(row, Example)]
    settings = asked.settings(recipe, source)
    found = iter(zip(sound, several(recipe, run.result, sound, settings, count), strict=True))
    for row in rows:
        told: dict[str, Any] = {"source": row.source, "line": row.line}
        if not isinstance(row, Example):
            yield {**told, "why": row.message}
            continue
        example, given = next(found)
        texts = list(dict.fromkeys(one.text.strip() for one in given if one.text.strip()))
        yield {**told, "query": _question(example), "candidates": texts}


def _question(example: Example) -> str:
    """What a row asks: the last message, or the prompt."""
    text = example.messages[-1]["content"] if example.messages else example.pieces[0].text
    return str(text).strip()


def _says(run: Finished, source: Source) -> Callable[[list[Example]], list[dict[str, Any]]]:
    """What becomes of some examples."""
    recipe, device = run.recipe, engines.device()
    if recipe.task.kind not in PREDICTORS:
        return lambda examples: _answers(run, source, examples)
    tokens_of = asked.before_answers if recipe.task.kind == "image_text" else asked.encoded
    model = load_finished(recipe, run.result, len(run.tokenizer), device)
    predicts = PREDICTORS[recipe.task.kind](recipe, run.result, run.tokenizer, model)

    def says(examples: list[Example]) -> list[dict[str, Any]]:
        rows = tokens_of(recipe, run.tokenizer, examples)
        pairs = zip(rows, examples, strict=True)
        sound = [
            Asked(row, example.images, example.words, example.parts, source.task or "")
            for row, example in pairs
            if isinstance(row, Encoded)
        ]
        with _precision(device, run.compute), torch.inference_mode():
            said = iter(predicts(sound) if sound else [])
        return [{"why": row} if isinstance(row, str) else next(said) for row in rows]

    return says


def _answers(run: Finished, source: Source, examples: list[Example]) -> list[dict[str, Any]]:
    """What a language model answers, and how sure it is; `why` beside an answer that is none."""
    _check_answers(run, source, "predict")
    given = answer(run.recipe, run.result, examples, asked.settings(run.recipe, source))
    return [
        {"answer": one.text, "confidence": one.confidence, **({"why": one.why} if one.why else {})} for one in given
    ]


def _check_answers(run: Finished, source: Source, what: str) -> None:
    """RecipeError where a run is no language model, or its rows ask nothing."""
    if run.recipe.task.kind != "causal_lm":
        message = f"{what} does not ask runs of task.kind: {run.recipe.task.kind}; it asks those of causal_lm"
        raise RecipeError([Problem("RUN", message)])
    if source.format not in ANSWERED:
        message = f"rows of the format {source.format} ask nothing; a run answers those of {', '.join(ANSWERED)}"
        raise RecipeError([Problem("RUN", message)])


def _like_training(recipe: Recipe, file: Path, task: str | None) -> Source:
    """A file in the format of the first training rows, of one of several tasks."""
    names = list(dict.fromkeys(source.task for source in recipe.data.train if source.task))
    if task not in names if names else task is not None:
        among = f"name one of {', '.join(names)}" if names else "leave it out, since the run has one task"
        raise RecipeError([Problem("--task", f"{task or 'nothing'} is no task of this run; {among}")])
    first = next(source for source in recipe.data.train if source.task == task)
    update = {"path": str(file), "split": None, "config": None, "revision": None, "weight": 1.0, "encoding": None}
    return first.model_copy(update=update)


def _with_data(recipe: Recipe, **keys: Any) -> Recipe:
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=keys)})


@contextmanager
def _precision(device: torch.device, compute: torch.dtype | None) -> Iterator[None]:
    with torch.autocast(device.type, compute, enabled=compute is not None):
        yield
