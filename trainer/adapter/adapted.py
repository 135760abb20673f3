"""What an adapter made of a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from trainer.adapter.budget import Budget
from trainer.data.batches import Batch

Tensors = dict[str, torch.Tensor]
WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
"""What peft reads of a folder."""


@dataclass(frozen=True)
class Adapted:
    """A model whose parameters that train are marked, and how what was added to it is saved."""

    model: PreTrainedModel
    """The object that was given: adapters change its modules in place."""
    added: tuple[str, ...] = ()
    """Entries of the model's state that make the result; none where the whole model does."""
    save: Callable[[Path, Tensors], Tensors] | None = None
    """Writes those entries into a folder that peft loads, and gives them as they are named there; None where the whole
    model is the result."""
    look: Callable[[nn.Module, Sequence[Batch], torch.device], None] | None = None
    """Begins what was added by what the module of a task makes of micro-batches, before the engine has it."""
    budget: Budget | None = None
    """Who decides between steps which ranks train on."""
