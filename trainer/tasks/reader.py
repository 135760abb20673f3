"""What the modules of tasks with heads share: a model that reads padded texts, its precision, and its comparison.

B texts, S tokens, H hidden size.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from trainer.data.batches import Batch
from trainer.kernels import library
from trainer.model.attention import own_attention
from trainer.model.inputs import takes_types
from trainer.tasks.causal_lm import COMPARED, gap


class Reader(nn.Module):
    """A model of transformers below a head."""

    def __init__(self, model: PreTrainedModel, compute: torch.dtype | None = None) -> None:
        """`compute`: the type of products where weights have another."""
        super().__init__()
        self.model, self.compute, self.takes_types = model, compute, takes_types(model)

    def inputs(self, batch: Batch) -> dict[str, Any]:
        """What transformers' forward takes of padded texts."""
        taken: dict[str, Any] = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        if self.takes_types and batch.token_type_ids is not None:
            taken["token_type_ids"] = batch.token_type_ids
        return taken

    def precision(self, device: torch.device) -> AbstractContextManager[Any]:
        """Where products are computed."""
        return nullcontext() if self.compute is None else torch.autocast(device.type, self.compute)

    def shown(self, batch: Batch) -> torch.Tensor:
        """What is compared with the model's own: logits or encodings, of what is no padding."""
        raise NotImplementedError

    @torch.no_grad()
    def compare_with_own_logits(self, batch: Batch) -> tuple[tuple[float, float], float]:
        """The largest relative difference of what is said to what is said without our kernels, and what is allowed."""
        training, batch = self.training, batch.beginning(COMPARED[0])
        self.eval()
        with self.precision(batch.input_ids.device):
            ours = self.shown(batch)
            with own_attention(self.model), library.turned_off():
                theirs = self.shown(batch)
        self.train(training)
        reduced = (self.compute or next(self.model.parameters()).dtype) != torch.float32
        return (gap(ours, theirs), 0.0), 0.05 if reduced else 1e-4


def mean_of(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of the hidden states [B, S, H] over what is no padding [B, S]: [B, H], of the same type."""
    there = mask[:, :, None].float()
    return ((hidden.float() * there).sum(dim=1) / there.sum(dim=1).clamp(min=1.0)).to(hidden.dtype)
