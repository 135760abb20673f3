"""P-tuning: embeddings before each row, which a trained network makes (Liu et al. 2021, arXiv 2103.10385), by peft."""

from typing import Any

from transformers import PreTrainedModel

from trainer.adapter.adapted import Adapted
from trainer.adapter.before_rows import wrap
from trainer.config.adapter import PTuning
from trainer.config.recipe import Recipe
from trainer.plan.adapter_parameters import LSTM_LAYERS


def apply(model: PreTrainedModel, recipe: Recipe, new_tokens: range) -> Adapted:
    """The frozen model behind what a network makes."""
    settings = recipe.adapter
    assert isinstance(settings, PTuning), "the table of methods goes by kind"

    def configured(task: str) -> Any:
        from peft import PromptEncoderConfig

        network = {"encoder_num_layers": LSTM_LAYERS} if settings.encoder == "lstm" else {}
        return PromptEncoderConfig(
            task_type=task,
            num_virtual_tokens=settings.tokens,
            num_transformer_submodules=1,
            encoder_reparameterization_type=settings.encoder.upper(),
            encoder_hidden_size=settings.hidden,
            **network,
        )

    return wrap(model, recipe, configured)
