"""Validation and test: the same terms as in training, without gradients, exact over ranks."""

import time
from typing import Any

from trainer import ranks
from trainer.config.evaluate import Evaluate
from trainer.data.batches import Windows
from trainer.engine.engine import Looks
from trainer.loop import answers
from trainer.loop.callback import EvaluationMetrics
from trainer.loop.state import State
from trainer.tasks.class_table import ClassTable
from trainer.tasks.objective import OUTPUTS, MeasuresMeans, Objective, Surveys, TellsClasses


def evaluate(engine: Looks, task: Objective, windows: Windows, state: State, settings: Evaluate) -> EvaluationMetrics:
    """One pass over the rows of a split; each term is divided by its count over all ranks and all rows.

    Metrics are those of the outputs of all ranks, each example once, and of the answers that `settings` ask for.
    """
    began = time.monotonic()
    if isinstance(task, Surveys):
        task.survey(engine)
    sums = dict.fromkeys(task.weights, 0.0)
    counted = dict.fromkeys(task.weights, 0.0)
    outputs: list[tuple[int, Any]] = []
    tokens = 0
    for window in windows:
        for name, count in task.counts(window.batches).items():
            counted[name] += count
        for batch in window.batches:
            tokens += batch.tokens
            terms = engine.evaluate(batch)
            for name in task.weights:
                sums[name] += float(terms[name])
            outputs += zip(batch.rows, terms.get(OUTPUTS, ()), strict=OUTPUTS in terms)
    totals = ranks.all_reduce(
        {
            "tokens": tokens,
            **{f"sum {name}": sums[name] for name in task.weights},
            **{f"count {name}": counted[name] for name in task.weights},
        }
    )
    counts = {name: totals[f"count {name}"] for name in task.weights}
    means = {name: totals[f"sum {name}"] / counts[name] if counts[name] else 0.0 for name in task.weights}
    loss = sum(weight * means[name] for name, weight in task.weights.items())
    measured, classes = _measured(task, outputs)
    of_means = task.of_means(means) if isinstance(task, MeasuresMeans) else {}
    metrics = {**of_means, **measured, **answers.measured(engine, task, windows, settings)}
    return EvaluationMetrics(
        step=state.step,
        epoch=state.epoch,
        loss=loss,
        tokens=int(totals["tokens"]),
        targets=int(sum(totals[f"count {name}"] for name in task.weights)),
        seconds=time.monotonic() - began,
        metrics=metrics,
        classes=classes,
    )


def _measured(task: Objective, own: list[tuple[int, Any]]) -> tuple[dict[str, float], ClassTable | None]:
    """What rank 0 measures of the outputs of all ranks, each beside the number of its example."""
    gathered = sorted((pair for pairs in ranks.gather(own) for pair in pairs), key=lambda pair: pair[0])
    outputs = [output for _, output in gathered]
    shared: dict[str, float] = ranks.broadcast(task.metrics(outputs) if outputs else {})
    return shared, task.classes(outputs) if outputs and isinstance(task, TellsClasses) else None
