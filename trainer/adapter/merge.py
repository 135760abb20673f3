"""An adapter put into the weights that it stands on, by peft, and how far what comes out is from what was trained."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from trainer.adapter.adapted import SETTINGS
from trainer.adapter.certificate import distance, outputs
from trainer.adapter.finished import base_of, put_on
from trainer.config.recipe import Recipe
from trainer.errors import Problem, RecipeError
from trainer.model.load import DTYPES, head_for
from trainer.plan import quantized

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


@dataclass(frozen=True)
class Several:
    """Adapters that are put together before they are merged."""

    results: tuple[Path, ...]
    """Folders of the others, beside the run's own."""
    weights: tuple[float, ...]
    """Of the run's own, and of each of them."""
    how: str = "linear"
    """linear, ties (Yadav et al. 2023), dare_linear or dare_ties (Yu et al. 2023), or cat, which takes any ranks."""
    density: float = 0.5
    """The part of each adapter's values that all but linear and cat keep."""


@torch.no_grad()
def merge(recipe: Recipe, result: Path, tokens: int, dtype: str, several: Several | None = None) -> Merged:
    """The model of a finished run in one piece, its weights in `dtype`; `tokens` are those of its tokenizer.

    A quantized base is brought back to whole weights first: what is merged is what was trained on, not what it was
    quantized from. RecipeError where the base does not load, or what stands before rows has no place in weights.
    """
    made = head_for(recipe)
    trusted = {"trust_remote_code": recipe.model.trust_remote_code}
    _has_place(result, several)

    def base(stored: str) -> PreTrainedModel:
        found = base_of(recipe, made, result, tokens, {"dtype": DTYPES[stored], **trusted})
        found.config.use_cache = False
        return found

    def beside(model: PreTrainedModel) -> Any:
        wrapped = put_on(recipe, model, result)
        if several is not None:
            _put_together(recipe, wrapped, several)
        return wrapped.eval()

    own = recipe.model.dtype
    first = base(own)
    known = min(tokens, first.get_input_embeddings().weight.shape[0])
    ids = torch.randint(known, (1, PROBE), generator=torch.Generator().manual_seed(0))
    said = outputs(beside(first), ids)
    del first
    # Merged in more bits than either has, and rounded once.
    whole = base(own)
    if recipe.model.quantization != "none":
        whole = whole.dequantize()
    unmerged = beside(whole.float())
    rounding = distance(outputs(unmerged, ids), said) if recipe.model.quantization != "none" else None
    model: PreTrainedModel = unmerged.merge_and_unload(safe_merge=True)
    if recipe.model.quantization != "none":
        if quantized.saved(recipe.model)[0] != "none":
            plain = _whole(made, model)
        else:
            unstored = recipe.model_copy(update={"model": recipe.model.model_copy(update={"quantization": "none"})})
            plain = base_of(unstored, made, result, tokens, {"dtype": torch.float32, **trusted})
        model = _as_it_was(model, plain)
    model = model.to(DTYPES[dtype])
    model.config.dtype = DTYPES[dtype]
    return Merged(model, distance(outputs(model, ids), said), rounding)


def _has_place(result: Path, several: Several | None) -> None:
    """RecipeError where an adapter is no part of weights, or cannot be put together with others."""
    for folder in (result, *(several.results if several else ())):
        kind = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))["peft_type"]
        if kind in ("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING"):
            message = f"{folder} holds what stands before rows ({kind}), which no weights can hold; load it with peft"
            raise RecipeError([Problem("--to", message)])
        if several is not None and kind != "LORA":
            raise RecipeError([Problem("--with", f"{folder} holds {kind}, and peft puts LoRA alone together")])


def _put_together(recipe: Recipe, wrapped: Any, several: Several) -> None:
    """One adapter of several, by peft; RecipeError where they do not go together."""
    names = ["default", *(f"other-{index}" for index in range(len(several.results)))]
    for name, folder in zip(names[1:], several.results, strict=True):
        trained = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))["base_model_name_or_path"]
        if trained != recipe.model.name:
            message = (
                f"{folder} was trained on {trained}, and the run on {recipe.model.name}; name one of the same base"
            )
            raise RecipeError([Problem("--with", message)])
        wrapped.load_adapter(str(folder), adapter_name=name)
    kept = {} if several.how in ("linear", "cat") else {"density": several.density}
    # What dare drops is drawn.
    torch.manual_seed(recipe.train.seed)
    try:
        wrapped.add_weighted_adapter(names, [*several.weights], "together", combination_type=several.how, **kept)
    except ValueError as error:
        raise RecipeError(
            [Problem("--combine", f"{several.how}: {str(error).splitlines()[0]}; cat takes all")]
        ) from error
    wrapped.set_adapter("together")
    for name in names:
        wrapped.delete_adapter(name)


def _whole(made: Any, model: PreTrainedModel) -> PreTrainedModel:
    """A model of the same configuration in float32, of one that was saved in fewer bits."""
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    found: PreTrainedModel = made.from_config(config, dtype=torch.float32)
    return found.eval()


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
