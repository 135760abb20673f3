"""LoRA: a product of two thin matrices beside each target (Hu et al. 2021, arXiv 2106.09685), by peft."""

import re
from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel

from trainer.adapter import starts
from trainer.adapter.adapted import Adapted
from trainer.adapter.wrap import Targets, wrap
from trainer.config.adapter import Lora, Thin
from trainer.config.recipe import Recipe
from trainer.errors import Problem, RecipeError
from trainer.plan.adapter_parameters import alpha_of, rank_of


def apply(model: PreTrainedModel, recipe: Recipe, new_tokens: range) -> Adapted:
    """The frozen model with LoRA beside its targets."""
    settings = recipe.adapter
    assert isinstance(settings, Lora), "the table of methods goes by kind"
    begins = {"init_lora_weights": starts.BY_PEFT[settings.start]}
    taken_out = settings.start in ("pissa", "olora")

    def configure(targets: Targets) -> Any:
        if targets.transposed and settings.start == "olora":
            message = "peft has no olora for layers that hold their matrix as [in, out], as this model's do; take pissa"
            raise RecipeError([Problem("adapter.start", message)])
        return configured(settings, targets, **begins)

    adapted = wrap(model, recipe, new_tokens, configure, starts.less_the_start if taken_out else None)
    if taken_out:
        starts.keep(model)
    elif settings.start == "loftq":
        starts.make_up(model, recipe.model)
    return replace(adapted, look=starts.look) if settings.start == "eva" else adapted


def configured(settings: Thin, targets: Targets, **more: Any) -> Any:
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
