"""What the loop asks of a task; the loop knows no head and no metric."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import nn
from transformers import PreTrainedModel

from trainer.data.batches import Batch


class Objective(Protocol):
    """One task with the labels of a run."""

    @property
    def weights(self) -> Mapping[str, float]:
        """The terms of the loss and their weights."""

    def counts(self, batches: Sequence[Batch]) -> dict[str, float]:
        """What each term of the loss is divided by, for these micro-batches; summed over the step and all ranks."""

    def module(self, model: PreTrainedModel, compute: torch.dtype | None, *, whole: bool) -> nn.Module:
        """Body, head and loss as one module, so that the hooks of DDP and ZeRO fire on its forward.

        `compute`: the type of products where weights have another; `whole`: whether weights are, between passes. The
        forward returns the summed terms; in evaluation mode the outputs of a micro-batch may stand beside them.
        """

    def metrics(self, outputs: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
        """What validation tells besides the loss, of all examples [N]; they stand in no order."""
