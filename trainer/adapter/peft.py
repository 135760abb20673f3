"""Any other method of the installed peft that stands beside layers, by its name and with its own keys."""

from typing import Any

from transformers import PreTrainedModel

from trainer.adapter import skeleton
from trainer.adapter.adapted import Adapted
from trainer.adapter.wrap import Targets, wrap
from trainer.config.adapter import OfPeft
from trainer.config.recipe import Recipe
from trainer.errors import Problem, RecipeError


def apply(model: PreTrainedModel, recipe: Recipe, new_tokens: range) -> Adapted:
    """The frozen model with what the method puts beside its targets."""
    settings = recipe.adapter
    assert isinstance(settings, OfPeft), "the table of methods goes by kind"
    if any(hasattr(weight, "ds_id") for weight in model.parameters()):
        # Where the recipe leaves the stage to the plan.
        message = "is 3, which shares weights out, and not all methods of peft know that; set it to 2"
        raise RecipeError([Problem("engine.zero", message)])

    def configured(targets: Targets) -> Any:
        own = {"target_modules": targets.names, **settings.settings}
        if targets.transposed and skeleton.takes(settings.method, "fan_in_fan_out"):
            own["fan_in_fan_out"] = True
        return skeleton.configuration(settings.method, own, task_type=targets.task)

    return wrap(model, recipe, new_tokens, configured)
