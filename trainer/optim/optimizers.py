"""The optimizers by their `optimizer.kind`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trainer.config.optimizer import Optimizer
from trainer.optim.adam import Adam
from trainer.optim.groups import NO_PHASES, groups
from trainer.strategy.course import Since

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "adamw_8bit": Adam,
}


def build(settings: Optimizer, module: nn.Module, seed: int = 0, since: Since = NO_PHASES) -> Adam:
    """Ours, over what trains in a module; the loop sets the rate before each step."""
    return Adam(groups(settings, module, since), settings, seed)


def build_shared(settings: Optimizer, module: nn.Module, seed: int, since: Since = NO_PHASES) -> torch.optim.Optimizer:
    """What DeepSpeed shares out: torch's own, where it keeps float32 copies by itself or none are wanted, else ours."""
    if settings.kind == "adamw_8bit" or settings.master not in ("float32", "none"):
        return build(settings, module, seed, since)
    constants: dict[str, Any] = {"betas": settings.betas, "eps": settings.eps, "weight_decay": settings.weight_decay}
    return OPTIMIZERS[settings.kind](groups(settings, module, since), lr=settings.lr, fused=True, **constants)
