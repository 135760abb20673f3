"""Answers to validation rows, written by all ranks together and measured by rank 0."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from trainer import ranks
from trainer.config.evaluate import Evaluate
from trainer.data.batches import Windows
from trainer.engine.engine import Looks
from trainer.tasks import answer_metrics
from trainer.tasks.objective import Objective, Writes
from trainer.tasks.writing import Written

TOGETHER = 16
"""Answers that are written at a time."""


def measured(engine: Looks, task: Objective, windows: Windows, settings: Evaluate) -> dict[str, float]:
    """What `evaluate.answers` names, of rows that are spread evenly over the split; each rank writes its share.

    No new batch is begun after `evaluate.answer_seconds`; `answered` says how many rows that left, where it left some.
    """
    if not settings.answers:
        return {}
    assert isinstance(task, Writes), "the rules ask no other task"
    rows = _spread(len(windows.split), settings.answered)
    written = _written(engine, task, windows, rows, settings)
    found: Mapping[str, float] = {}
    if ranks.is_main():
        said = [written[row] for row in sorted(written)]
        found = answer_metrics.measure(settings.answers, [one.answer for one in said], [one.reference for one in said])
        found = found if len(said) == len(rows) else {**found, "answered": len(said)}
    shared: dict[str, float] = ranks.broadcast(found)
    return shared


def _spread(length: int, count: int | None) -> list[int]:
    """The numbers of so many examples."""
    most = length if count is None else min(count, length)
    return [int(row) for row in np.unique(np.linspace(0, length - 1, most).astype(np.int64))]


def _written(
    engine: Looks, task: Writes, windows: Windows, rows: Sequence[int], settings: Evaluate
) -> dict[int, Written]:
    """The answers of all ranks, by the number of the example."""
    # Alike in length, so that little is padded.
    ordered = sorted(rows, key=lambda row: (int(windows.split.lengths[row]), row))
    groups = [ordered[start : start + TOGETHER] for start in range(0, len(ordered), TOGETHER)]
    began, held = time.monotonic(), dict[int, Written]()
    with engine.gathered():
        for first in range(0, len(groups), ranks.world_size()):
            late = time.monotonic() - began > settings.answer_seconds
            if first and ranks.all_reduce({"late": float(late)})["late"]:
                break
            turn = first + ranks.rank()
            # A rank without a batch of its own goes along, because shared weights need all ranks.
            group = groups[turn] if turn < len(groups) else groups[first]
            said = task.write(windows.asked(group), settings.answer_tokens)
            if turn < len(groups):
                held.update(zip(group, said, strict=True))
    return {row: one for some in ranks.gather(held) for row, one in some.items()}
