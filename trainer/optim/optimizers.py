"""The optimizer of a module, for plain torch and for DeepSpeed."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trainer.config.optimizer import Optimizer
from trainer.optim.groups import NO_PHASES, groups
from trainer.optim.stepper import Stepper
from trainer.strategy.course import Since

TORCHS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
"""Those of torch itself, by `optimizer.kind`."""


def build(settings: Optimizer, module: nn.Module, seed: int = 0, since: Since = NO_PHASES) -> Stepper:
    """Ours, over what trains in a module; the loop sets the rate before each step."""
    return Stepper(groups(settings, module, since), settings, seed)


def build_shared(settings: Optimizer, module: nn.Module, seed: int, since: Since = NO_PHASES) -> torch.optim.Optimizer:
    """What DeepSpeed shares out: torch's own, where it keeps float32 copies by itself or none are wanted, else ours."""
    if settings.kind not in TORCHS or settings.master not in ("float32", "none"):
        return build(settings, module, seed, since)
    constants: dict[str, Any] = {"betas": settings.decays, "eps": settings.eps, "weight_decay": settings.weight_decay}
    return TORCHS[settings.kind](groups(settings, module, since), lr=settings.lr, fused=True, **constants)
