"""The base of everything that watches a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainer.loop.state import State
from trainer.tasks.class_table import ClassTable


@dataclass(frozen=True)
class StepMetrics:
    """Training metrics since the last report, over all ranks; the fields of a metrics.jsonl line."""

    step: int
    epoch: float
    loss: float
    lr: float
    grad_norm: float | None
    tokens: int
    """Tokens since the last report, padding left out."""
    targets: int
    """Learned tokens since the last report."""
    positions: int
    """Positions of its micro-batches, padding counted in."""
    squares: int
    """The squared lengths of its examples, summed: what attention grows with."""
    tokens_per_second: float
    peak_memory_bytes: int
    seconds: float
    """Seconds since training began in this process."""
    processor_seconds: float
    """Processor seconds of all ranks since the last report."""


@dataclass(frozen=True)
class EvaluationMetrics:
    """Metrics of the validation or test rows at one step."""

    step: int
    epoch: float
    loss: float
    tokens: int
    targets: int
    seconds: float
    """Seconds that it took."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What the task measures besides the loss."""
    classes: ClassTable | None = None
    """How well each label is told, on rank 0; None where the task has no labels."""

    def value(self, name: str) -> float | None:
        """The loss or a metric; None where these rows do not define it."""
        return self.loss if name == "loss" else self.metrics.get(name)


class Callback:
    """Every hook does nothing here; a callback overrides what it needs. All ranks call all hooks in the same order."""

    def start(self, state: State) -> None:
        """Before the first step, after a resume."""

    def step_end(self, state: State) -> None:
        """After every optimizer step; `state.step` counts it."""

    def report(self, state: State, metrics: StepMetrics) -> None:
        """Every `log.every` steps and after the last."""

    def evaluated(self, state: State, metrics: EvaluationMetrics) -> None:
        """After each validation."""

    def tested(self, state: State, metrics: EvaluationMetrics) -> None:
        """After the final model was measured on the test rows."""

    def entered(self, state: State, phase: str, trained: str, rates: Mapping[str, float]) -> None:
        """After another phase began: what it is called, what trains in it, and what rates of groups are of its own."""

    def saved(self, state: State, path: str) -> None:
        """After a checkpoint was written, which may be some steps after it was begun; on rank 0 alone."""

    def end(self, state: State) -> None:
        """After the last step or a stop; also when the run fails."""
