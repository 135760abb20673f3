"""AdaLoRA: singular values and vectors beside each target, of which the least important are let go (Zhang et al. 2023,
arXiv 2303.10512), by peft; the decisions are budget.py's.
"""

from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel

from trainer.adapter.adapted import Adapted
from trainer.adapter.budget import Budget
from trainer.adapter.wrap import Targets, wrap
from trainer.config.adapter import AdaLora
from trainer.config.recipe import Recipe

_MANY = 10**9
"""Steps: peft asks for those of the run, and counts none here."""


def apply(model: PreTrainedModel, recipe: Recipe, new_tokens: range) -> Adapted:
    """The frozen model with triplets beside its targets, and who decides about them."""
    from peft.tuners.adalora.layer import AdaLoraLayer

    settings = recipe.adapter
    assert isinstance(settings, AdaLora), "the table of methods goes by kind"

    def configured(targets: Targets) -> Any:
        from peft import AdaLoraConfig

        return AdaLoraConfig(
            task_type=targets.task,
            init_r=settings.first,
            target_r=settings.r,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            total_step=_MANY,
            target_modules=targets.names,
            fan_in_fan_out=targets.transposed,
        )

    adapted = wrap(model, recipe, new_tokens, configured)
    layers = [module for module in model.modules() if isinstance(module, AdaLoraLayer)]
    return replace(adapted, budget=Budget(model, layers, settings))
