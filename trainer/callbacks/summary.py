"""`summary.json`: how the run ended, in numbers."""

import time
from pathlib import Path
from typing import Any

import torch

from trainer import ranks
from trainer.loop.callback import Callback, EvaluationMetrics, StepMetrics
from trainer.loop.meter import memory_by_kind, peak_memory
from trainer.loop.state import State
from trainer.plan.files import write_json


class Summary(Callback):
    """Collects what summary.json tells."""

    def __init__(
        self, folder: Path, began: float, device: torch.device, metric: str = "loss", *, imports: int = 0
    ) -> None:
        """`began` is the monotonic second at which this process started; `metric` is `evaluate.metric`.

        `imports` are the bytes of this process before there were rows and weights.
        """
        self.metric, self.imports = metric, imports
        self.path, self.began, self.device = folder / "summary.json", began, device
        self.startup: float | None = None
        self.last_loss: float | None = None
        self.last_validation: float | None = None
        self.test: EvaluationMetrics | None = None
        self.adapter: dict[str, Any] | None = None
        """What was found when the adapter was read again."""

    def start(self, state: State) -> None:
        """The first step is about to begin."""
        self.startup = time.monotonic() - self.began

    def report(self, state: State, metrics: StepMetrics) -> None:
        """Notes the training loss."""
        self.last_loss = metrics.loss

    def evaluated(self, state: State, metrics: EvaluationMetrics) -> None:
        """Notes the value of the metric."""
        self.last_validation = metrics.value(self.metric)

    def tested(self, state: State, metrics: EvaluationMetrics) -> None:
        """Notes what the final model reached."""
        self.test = metrics

    def write(self, state: State, status: str, rate: float | None) -> None:
        """Writes the file on rank 0; all ranks call it, unless the run failed. `rate` is the median tokens a second."""
        failed = status == "failed"
        peak = None if failed else peak_memory(self.device)
        memory = None if failed else memory_by_kind(self.device, self.imports)
        if not ranks.is_main():
            return
        best = None if state.best_step is None else {"step": state.best_step, self.metric: state.best_value}
        content = {
            "status": status,
            "steps": state.step,
            "tokens": state.tokens,
            "loss": self.last_loss,
            "validation": {"first": state.first_value, "last": self.last_validation},
            "best": best,
            "test": None
            if self.test is None
            else {"loss": self.test.loss, "targets": self.test.targets, **self.test.metrics},
            "tokens_per_second": rate,
            "startup_seconds": self.startup,
            "wall_seconds": time.monotonic() - self.began,
            "peak_memory_bytes": peak,
            "memory_bytes": memory,
            "predicted_peak_memory_bytes": None,
            "adapter": self.adapter,
            "resumed_from": state.resumed_from,
        }
        write_json(self.path, content)
