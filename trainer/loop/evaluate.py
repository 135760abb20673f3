"""Validation and test: the same terms as in training, without gradients, exact over ranks."""

import time
from typing import Any

from trainer import ranks
from trainer.data.batches import Windows
from trainer.engine.engine import Engine
from trainer.loop.callback import EvaluationMetrics
from trainer.loop.state import State


def evaluate(engine: Engine, task: Any, windows: Windows, state: State) -> EvaluationMetrics:
    """One pass over the rows of a split; each term is divided by its count over all ranks and all rows."""
    began = time.monotonic()
    sums = dict.fromkeys(task.WEIGHTS, 0.0)
    counted = dict.fromkeys(task.WEIGHTS, 0.0)
    tokens = 0
    for window in windows:
        for name, count in task.counts(window.batches).items():
            counted[name] += count
        for batch in window.batches:
            tokens += batch.tokens
            for name, term in engine.evaluate(batch).items():
                sums[name] += float(term)
    totals = ranks.all_reduce(
        {
            "tokens": tokens,
            **{f"sum {name}": sums[name] for name in task.WEIGHTS},
            **{f"count {name}": counted[name] for name in task.WEIGHTS},
        }
    )
    loss = sum(
        weight * totals[f"sum {name}"] / max(1.0, totals[f"count {name}"]) for name, weight in task.WEIGHTS.items()
    )
    return EvaluationMetrics(
        step=state.step,
        epoch=state.epoch,
        loss=loss,
        tokens=int(totals["tokens"]),
        targets=int(sum(totals[f"count {name}"] for name in task.WEIGHTS)),
        seconds=time.monotonic() - began,
    )
