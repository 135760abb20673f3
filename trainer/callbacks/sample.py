"""What the model answers to a few validation prompts before and after training."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from trainer.config.evaluate import Evaluate as Settings
from trainer.data.batches import Windows
from trainer.engine.engine import Engine
from trainer.plan.files import write_json
from trainer.tasks.objective import Objective, Writes
from trainer.tasks.writing import Written


def write_samples(folder: Path, when: str, samples: Sequence[Written]) -> None:
    """Keeps the samples of one moment (`before` or `after`) in samples.json."""
    path = folder / "samples.json"
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_json(path, held | {when: [asdict(sample) for sample in samples]})


def samples(settings: Settings, engine: Engine, task: Objective, windows: Windows | None) -> list[Written]:
    """One sample for each of the first `evaluate.samples` rows that begin with a prompt; all ranks call it.

    The rows of `windows` are asked; None where the training rows are a stream and there are no others.
    """
    if windows is None or settings.samples == 0:
        return []
    assert isinstance(task, Writes), "the rules ask no other task"
    rows = windows.split
    chosen = [row for row in range(len(rows)) if not rows.learned(row)[0]][: settings.samples]
    with engine.gathered():
        return task.write(windows.asked(chosen), settings.sample_tokens) if chosen else []
