"""OFT: rotations of each target's inputs, block by block (Qiu et al. 2023, arXiv 2306.07280; on inputs: Qiu et al.
2025, arXiv 2506.19847), by peft.
"""

from typing import Any

from transformers import PreTrainedModel

from trainer.adapter.adapted import Adapted
from trainer.adapter.wrap import Targets, wrap
from trainer.config.adapter import Oft
from trainer.config.recipe import Recipe
from trainer.errors import Problem, RecipeError


def apply(model: PreTrainedModel, recipe: Recipe, new_tokens: range) -> Adapted:
    """The frozen model with rotations before its targets."""
    settings = recipe.adapter
    assert isinstance(settings, Oft), "the table of methods goes by kind"

    def configured(targets: Targets) -> Any:
        from peft import OFTConfig

        if targets.transposed:
            message = "peft has no oft for layers that hold their matrix as [in, out], as this model's do; take lora"
            raise RecipeError([Problem("adapter.kind", message)])
        return OFTConfig(
            task_type=targets.task,
            oft_block_size=settings.block,
            module_dropout=settings.dropout,
            use_cayley_neumann=not settings.exact,
            target_modules=targets.names,
            fan_in_fan_out=targets.transposed,
        )

    return wrap(model, recipe, new_tokens, configured)
