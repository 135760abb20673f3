"""Prefix tuning: trained keys and values before those of each row, in every layer (Li and Liang 2021, arXiv
2101.00190), by peft.
"""

from typing import Any

from transformers import PreTrainedModel

from trainer.adapter.adapted import Adapted
from trainer.adapter.before_rows import wrap
from trainer.config.adapter import Prefix
from trainer.config.recipe import Recipe


def apply(model: PreTrainedModel, recipe: Recipe, new_tokens: range) -> Adapted:
    """The frozen model behind trained keys and values."""
    settings = recipe.adapter
    assert isinstance(settings, Prefix), "the table of methods goes by kind"

    def configured(task: str) -> Any:
        from peft import PrefixTuningConfig

        return PrefixTuningConfig(
            task_type=task,
            num_virtual_tokens=settings.tokens,
            num_transformer_submodules=1,
            prefix_projection=settings.hidden is not None,
            encoder_hidden_size=settings.hidden,
        )

    return wrap(model, recipe, configured)
