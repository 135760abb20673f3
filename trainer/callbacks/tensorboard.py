"""`tensorboard/`: the curves of a run; the only home of TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.callbacks.confusion import picture
from trainer.loop.callback import Callback, EvaluationMetrics, StepMetrics
from trainer.loop.state import State

FOLDER = "tensorboard"


class TensorBoard(Callback):
    """Writes the metrics and the recipe to `folder/tensorboard`; steps that a killed process left are hidden."""

    def __init__(self, folder: Path, recipe: str, rates: Mapping[str, float]) -> None:
        """`recipe` is the recipe as YAML text; `rates` are what those of groups are of the run's, where they differ."""
        self.folder = folder / FOLDER
        self._recipe, self._rates = recipe, rates
        self._writer: Any = None

    def start(self, state: State) -> None:
        """Opens a new event file that hides older events of the steps still to come."""
        # here, not above: the import takes a second, and runs without TensorBoard need not wait for it
        from torch.utils.tensorboard import SummaryWriter

        first = 0 if state.resumed_from is None else state.resumed_from + 1
        self._writer = SummaryWriter(str(self.folder), purge_step=first)
        self._writer.add_text("recipe", f"```yaml\n{self._recipe.rstrip()}\n```", state.step)
        self._writer.flush()

    def report(self, state: State, metrics: StepMetrics) -> None:
        """Writes one point of each training curve."""
        curves = {
            "train/loss": metrics.loss,
            "train/learning_rate": metrics.lr,
            "train/gradient_norm": metrics.grad_norm,
            "train/tokens_per_second": metrics.tokens_per_second,
            "train/peak_memory_bytes": metrics.peak_memory_bytes,
        }
        if metrics.lr is not None:
            curves |= {f"learning_rate/{name}": metrics.lr * scale for name, scale in self._rates.items()}
        for tag, value in curves.items():
            if value is not None:
                self._writer.add_scalar(tag, value, metrics.step)
        # TensorBoard would write every two minutes only: the curves should move, and outlive a kill
        self._writer.flush()

    def evaluated(self, state: State, metrics: EvaluationMetrics) -> None:
        """Writes one point of each validation curve."""
        self._measured("validation", metrics)

    def tested(self, state: State, metrics: EvaluationMetrics) -> None:
        """Writes the one point of each metric of the test."""
        self._measured("test", metrics)

    def entered(self, state: State, phase: str, trained: str, rates: Mapping[str, float]) -> None:
        """Notes what trains from here on, and takes its rates."""
        self._rates = rates
        self._writer.add_text("phase", f"{phase}: {trained}", state.step)

    def _measured(self, split: str, metrics: EvaluationMetrics) -> None:
        for name, value in {"loss": metrics.loss, **metrics.metrics}.items():
            self._writer.add_scalar(f"{split}/{name}", value, metrics.step)
        if metrics.classes is not None:
            self._writer.add_text(f"{split}/labels", metrics.classes.markdown(), metrics.step)
            if (shown := picture(metrics.classes)) is not None:
                self._writer.add_image(f"{split}/confusion", shown, metrics.step, dataformats="HWC")
        self._writer.flush()

    def end(self, state: State) -> None:
        """Closes the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
