"""IA3: a factor on each output of keys and values, and on each input of the MLP's last layer (Liu et al. 2022, arXiv
2205.05638), by peft.
"""

from typing import Any

from transformers import PreTrainedModel

from trainer.adapter.adapted import Adapted
from trainer.adapter.wrap import Targets, wrap
from trainer.config.recipe import Recipe
from trainer.plan.adapter_parameters import scales_inputs


def apply(model: PreTrainedModel, recipe: Recipe, new_tokens: range) -> Adapted:
    """The frozen model with factors on its targets."""
    return wrap(model, recipe, new_tokens, _configured)


def _configured(targets: Targets) -> Any:
    from peft import IA3Config

    return IA3Config(
        task_type=targets.task,
        target_modules=targets.names,
        feedforward_modules=[name for name in targets.names if scales_inputs(name)],
        fan_in_fan_out=targets.transposed,
    )
