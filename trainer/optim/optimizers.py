"""The optimizers by their `optimizer.kind`: torch's own, fused."""

from collections.abc import Callable
from typing import Any

import torch

from trainer.config.optimizer import Optimizer

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


def build(settings: Optimizer, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """The optimizer over parameter groups; the loop sets the rate before each step."""
    return OPTIMIZERS[settings.kind](
        groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay, fused=True
    )
