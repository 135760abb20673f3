"""What the loop asks of a task; the loop knows no head and no metric."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from transformers import PreTrainedModel

from trainer.data.batches import Batch, Collate, Window
from trainer.data.encoded import Encoded
from trainer.data.images import Image
from trainer.tasks.class_table import ClassTable
from trainer.tasks.writing import Written


class Objective(Protocol):
    """One task, with what it has to know of the rows of a run."""

    @property
    def weights(self) -> Mapping[str, float]:
        """The terms of the loss and their weights."""

    @property
    def labels(self) -> tuple[str, ...] | None:
        """What the outputs of the model's head stand for, in their order; None where those are tokens."""

    def collate(self, split: str) -> Collate:
        """How examples of a split become micro-batches."""

    def counts(self, batches: Sequence[Batch]) -> dict[str, float]:
        """What each term of the loss is divided by, for these micro-batches; summed over the step and all ranks."""

    def module(self, model: PreTrainedModel, compute: torch.dtype | None, *, whole: bool) -> nn.Module:
        """Body, head and loss as one module, so that the hooks of DDP and ZeRO fire on its forward.

        `compute`: the type of products where weights have another; `whole`: whether weights are, between passes. The
        forward returns the summed terms; in evaluation mode OUTPUTS may stand beside them: a list with what `metrics`
        has to know of each example of the micro-batch, on the processor.
        """

    def metrics(self, outputs: Sequence[Any]) -> dict[str, float]:
        """What validation tells besides the loss, of the examples of all ranks in the order of their split."""


@runtime_checkable
class Writes(Protocol):
    """A task whose model writes answers."""

    def write(self, batch: Batch, tokens: int) -> list[Written]:
        """What the model answers to each example of a padded micro-batch, in at most so many tokens.

        Weights are whole meanwhile, and all ranks ask equally often.
        """


@runtime_checkable
class TellsClasses(Protocol):
    """A task that chooses among labels."""

    def classes(self, outputs: Sequence[Any]) -> ClassTable | None:
        """How well each label is told, of what `metrics` gets; None where a number is learned."""


@runtime_checkable
class MeasuresMeans(Protocol):
    """A task with metrics that follow from the mean of each term of its loss."""

    def of_means(self, means: Mapping[str, float]) -> dict[str, float]:
        """They, of all examples."""


@runtime_checkable
class LooksAhead(Protocol):
    """A task whose loss compares the examples of a whole optimizer step, over all ranks."""

    def ahead(self, engine: Any, window: Window, begin: Callable[[int], None]) -> Window:
        """The window with what a first pass told beside its micro-batches; `begin` comes before each one's forward.

        The second pass draws as the first one did, so that both are one.
        """


@runtime_checkable
class Surveys(Protocol):
    """A task that compares its examples with something else."""

    def survey(self, engine: Any) -> None:
        """Before examples are measured; all ranks do equally many forwards."""


@runtime_checkable
class Sees(Protocol):
    """A task whose model takes more than tokens."""

    processor: Any
    """What turns texts and images into what the model takes; it is saved with the model."""


@runtime_checkable
class HasHeads(Protocol):
    """A task with heads of our own, below `heads.` of its module; they are kept beside the body."""

    def heads(self) -> dict[str, Any]:
        """What they are for, as JSON."""

    def restore(self, module: nn.Module, folder: Path) -> None:
        """Fills those of a module with the weights of a finished run."""


@dataclass(frozen=True)
class Asked:
    """A row that a finished run is asked about."""

    encoded: Encoded
    images: tuple[Image, ...] = ()
    words: tuple[str, ...] = ()
    """Those that the row is split into; none where it holds a text."""
    parts: tuple[tuple[str, ...], ...] = ()
    """What the model reads apart; none where that is one text."""
    task: str = ""
    """Which of several tasks it asks; empty where there is one."""


Predict = Callable[[Sequence[Asked]], list[dict[str, Any]]]
"""What a finished run says to rows: the same number of rows that JSON can hold."""

OUTPUTS = "outputs"
"""What a module's forward says of single examples, beside the terms of its loss."""
