"""An adapter put into the weights that it stands on, by peft, and how far what comes out is from what was trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from trainer.adapter.certificate import distance, outputs
from trainer.adapter.finished import base_of
from trainer.config.recipe import Recipe
from trainer.model.load import DTYPES, head_for

PROBE = 64
"""Tokens, drawn at random, that both models are asked about."""


@dataclass(frozen=True)
class Merged:
    """A model without an adapter."""

    model: PreTrainedModel
    difference: float
    """The norm of its outputs less those with the adapter beside, as a part of the norm of the latter."""
    rounding: float | None
    """How much of that the type of the weights alone makes, where the base was quantized; None where it was not."""


@torch.no_grad()
def merge(recipe: Recipe, result: Path, tokens: int, dtype: str) -> Merged:
    """The model of a finished run in one piece, its weights in `dtype`; `tokens` are those of its tokenizer.

    A quantized base is brought back to whole weights first: what is merged is what was trained on, not what it was
    quantized from. RecipeError where the base does not load.
    """
    from peft import PeftModel

    made = head_for(recipe)
    trusted = {"trust_remote_code": recipe.model.trust_remote_code}

    def base(stored: str) -> PreTrainedModel:
        found = base_of(recipe, made, result, tokens, {"dtype": DTYPES[stored], **trusted})
        found.config.use_cache = False
        return found

    own = recipe.model.dtype
    beside: Any = PeftModel.from_pretrained(base(own), str(result)).eval()
    ids = torch.randint(
        min(tokens, beside.get_input_embeddings().weight.shape[0]),
        (1, PROBE),
        generator=torch.Generator().manual_seed(0),
    )
    said = outputs(beside, ids)
    del beside
    # Merged in more bits than either has, and rounded once.
    whole = base(own)
    if recipe.model.quantization != "none":
        whole = whole.dequantize()
    unmerged: Any = PeftModel.from_pretrained(whole.float(), str(result)).eval()
    rounding = distance(outputs(unmerged, ids), said) if recipe.model.quantization != "none" else None
    model: PreTrainedModel = unmerged.merge_and_unload(safe_merge=True)
    if recipe.model.quantization != "none":
        plain = recipe.model_copy(update={"model": recipe.model.model_copy(update={"quantization": "none"})})
        model = _as_it_was(model, base_of(plain, made, result, tokens, {"dtype": torch.float32, **trusted}))
    model = model.to(DTYPES[dtype])
    model.config.dtype = DTYPES[dtype]
    return Merged(model, distance(outputs(model, ids), said), rounding)


def _as_it_was(model: PreTrainedModel, plain: PreTrainedModel) -> PreTrainedModel:
    """The weights of a model that was quantized in one that never was: GPT-2's layers became plain linear ones, whose
    matrices lie the other way.
    """
    weights = dict(model.named_parameters())
    for name, weight in plain.named_parameters():
        lies = isinstance(plain.get_submodule(name.rpartition(".")[0]), Conv1D) and weight.dim() == 2
        weight.copy_(weights[name].T if lies else weights[name])
    plain.config.use_cache = False
    return plain
