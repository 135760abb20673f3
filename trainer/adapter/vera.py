"""VeRA: two frozen random matrices that all targets share, and trained factors between and behind them (Kopiczko et al.
2023, arXiv 2310.11454), by peft.
"""

from typing import Any

from transformers import PreTrainedModel

from trainer.adapter.adapted import Adapted
from trainer.adapter.wrap import Targets, wrap
from trainer.config.adapter import Vera
from trainer.config.recipe import Recipe


def apply(model: PreTrainedModel, recipe: Recipe, new_tokens: range) -> Adapted:
    """The frozen model with factors beside its targets."""
    settings = recipe.adapter
    assert isinstance(settings, Vera), "the table of methods goes by kind"

    def configured(targets: Targets) -> Any:
        from peft import VeraConfig

        return VeraConfig(
            task_type=targets.task,
            r=settings.r,
            d_initial=settings.initial,
            vera_dropout=settings.dropout,
            projection_prng_key=recipe.train.seed,
            target_modules=targets.names,
            fan_in_fan_out=targets.transposed,
        )

    return wrap(model, recipe, new_tokens, configured)
