"""LoRA: a product of two thin matrices beside each target (Hu et al. 2021, arXiv 2106.09685), by peft."""

import re
from typing import Any

from transformers import PreTrainedModel

from trainer.adapter.adapted import Adapted
from trainer.adapter.wrap import Targets, wrap
from trainer.config.adapter import Adapter
from trainer.config.recipe import Recipe
from trainer.plan.adapter_parameters import alpha_of, rank_of


def apply(model: PreTrainedModel, recipe: Recipe, new_tokens: range) -> Adapted:
    """The frozen model with LoRA beside its targets."""
    return wrap(model, recipe, new_tokens, lambda targets: configured(recipe.adapter, targets))


def configured(settings: Adapter, targets: Targets, **more: Any) -> Any:
    """Peft's settings; ranks and scales of single layers stand under their whole names."""
    from peft import LoraConfig

    own = {re.escape(name): (rank_of(settings, name), alpha_of(settings, name)) for name in targets.names}
    return LoraConfig(
        task_type=targets.task,
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        rank_pattern={name: rank for name, (rank, _) in own.items() if rank != settings.r},
        alpha_pattern={name: alpha for name, (_, alpha) in own.items() if alpha != settings.alpha},
        target_modules=targets.names,
        fan_in_fan_out=targets.transposed,
        **more,
    )
