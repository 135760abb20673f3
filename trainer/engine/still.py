"""A model that is looked at and does not train: one process, no optimizer."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from trainer.data.batches import Batch
from trainer.engine.engine import Terms


class Still:
    """What validation asks of an engine."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.module, self.device = module.to(device), device

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> Terms:
        """As the protocol says."""
        self.module.eval()
        terms: Terms = self.module(batch.to(self.device))
        return terms

    def gathered(self) -> AbstractContextManager[None]:
        """The weights are here."""
        return nullcontext()
