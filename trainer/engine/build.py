"""The engine that the plan chose."""

from typing import Any

import torch

from trainer import ranks
from trainer.config.recipe import Recipe
from trainer.engine.engine import Engine
from trainer.plan.plan import Plan


def device() -> torch.device:
    """The device of this process: its own CUDA device, or the CPU."""
    if torch.cuda.is_available():
        torch.cuda.set_device(ranks.local_rank())
        return torch.device("cuda", ranks.local_rank())
    return torch.device("cpu")


def build(recipe: Recipe, plan: Plan, place: torch.device, deepspeed: dict[str, Any] | None) -> Engine:
    """The engine, on the cores that are this process's; DeepSpeed is imported only where it runs."""
    ranks.bind_to_cores()
    if plan.engine == "torch":
        from trainer.engine.torch import TorchEngine

        return TorchEngine(place, recipe.train.clip, recipe.train.seed, recipe.train.clip_value)
    from trainer.engine.deepspeed import DeepSpeedEngine

    assert deepspeed is not None, "the plan chose DeepSpeed"
    return DeepSpeedEngine(place, deepspeed, recipe.train.seed)
