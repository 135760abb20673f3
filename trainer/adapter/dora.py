"""DoRA: LoRA on the direction of each target, and a trained length of each of its outputs (Liu et al. 2024, arXiv
2402.09353), by peft.
"""

from transformers import PreTrainedModel

from trainer.adapter import lora
from trainer.adapter.adapted import Adapted
from trainer.adapter.wrap import wrap
from trainer.config.adapter import Dora
from trainer.config.recipe import Recipe


def apply(model: PreTrainedModel, recipe: Recipe, new_tokens: range) -> Adapted:
    """The frozen model with DoRA beside its targets."""
    settings = recipe.adapter
    assert isinstance(settings, Dora), "the table of methods goes by kind"
    return wrap(model, recipe, new_tokens, lambda targets: lora.configured(settings, targets, use_dora=True))
