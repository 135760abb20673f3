"""Prompt tuning: trained embeddings before each row (Lester et al. 2021, arXiv 2104.08691), by peft."""

from typing import Any

from transformers import PreTrainedModel

from trainer.adapter.adapted import Adapted
from trainer.adapter.before_rows import wrap
from trainer.config.adapter import Prompt
from trainer.config.recipe import Recipe


def apply(model: PreTrainedModel, recipe: Recipe, new_tokens: range) -> Adapted:
    """The frozen model behind trained embeddings."""
    settings = recipe.adapter
    assert isinstance(settings, Prompt), "the table of methods goes by kind"

    def configured(task: str) -> Any:
        from peft import PromptTuningConfig

        return PromptTuningConfig(
            task_type=task,
            num_virtual_tokens=settings.tokens,
            num_transformer_submodules=1,
            prompt_tuning_init="SAMPLE_VOCAB" if settings.text is None else "TEXT",
            prompt_tuning_init_text=settings.text,
            tokenizer_name_or_path=None if settings.text is None else recipe.model.tokenizer or recipe.model.name,
        )

    return wrap(model, recipe, configured)
