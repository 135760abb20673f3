"""No adapter: the model itself trains."""

from transformers import PreTrainedModel

from trainer.adapter.adapted import Adapted
from trainer.config.recipe import Recipe


def apply(model: PreTrainedModel, recipe: Recipe, new_tokens: range) -> Adapted:
    """The model as it is."""
    return Adapted(model)
