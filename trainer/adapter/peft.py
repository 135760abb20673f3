"""Any other method of the installed peft that stands beside layers, by its name and with its own keys."""

from typing import Any

from transformers import PreTrainedModel

from trainer.adapter import skeleton
from trainer.adapter.adapted import Adapted
from trainer.adapter.wrap import Targets, wrap
from trainer.config.adapter import OfPeft
from trainer.config.recipe import Recipe


def apply(model: PreTrainedModel, recipe: Recipe, new_tokens: range) -> Adapted:
    """The frozen model with what the method puts beside its targets."""
    settings = recipe.adapter
    assert isinstance(settings, OfPeft), "the table of methods goes by kind"

    def configured(targets: Targets) -> Any:
        own = {"target_modules": targets.names, **settings.settings}
        if targets.transposed and skeleton.takes(settings.method, "fan_in_fan_out"):
            own["fan_in_fan_out"] = True
        return skeleton.configuration(settings.method, own, task_type=targets.task)

    return wrap(model, recipe, new_tokens, configured)
