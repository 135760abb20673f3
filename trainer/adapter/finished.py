"""The model of a finished run: its own weights, or those that its adapter stands on with the adapter beside them."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel
from transformers.utils import logging

from trainer.adapter import before_rows
from trainer.adapter.adapted import SETTINGS, WEIGHTS
from trainer.config.recipe import Recipe
from trainer.errors import Problem, RecipeError
from trainer.model import quantize
from trainer.model.load import DTYPES, ORDINAL, THRESHOLD, head_for

OF_HEADS = ("id2label", "label2id", "problem_type", "pad_token_id", ORDINAL, THRESHOLD)
"""What a configuration says of a head, which that of the weights below an adapter does not know."""


def load_finished(recipe: Recipe, result: Path, tokens: int, device: torch.device) -> PreTrainedModel:
    """The model in `model.dtype` for rows that are padded; `tokens` are those of the result's tokenizer.

    RecipeError where the weights below an adapter do not load.
    """
    made = head_for(recipe)
    keys: dict[str, Any] = {
        "dtype": DTYPES[recipe.model.dtype],
        "trust_remote_code": recipe.model.trust_remote_code,
    }
    if result.name == "model":
        model: PreTrainedModel = made.from_pretrained(result, **keys)
    else:
        model = _adapted(recipe, made, result, tokens, keys)
    model.config.use_cache = False
    return model.to(device).eval()


def _adapted(recipe: Recipe, made: Any, result: Path, tokens: int, keys: dict[str, Any]) -> PreTrainedModel:
    wrapped = put_on(recipe, base_of(recipe, made, result, tokens, keys), result)
    inner: PreTrainedModel = wrapped.get_base_model()
    if wrapped.active_peft_config.is_prompt_learning:
        # What made it in training is not there any more.
        made_before = wrapped.prompt_encoder["default"].embedding.to(inner.dtype)
        before_rows.attach(inner, made_before, wrapped.active_peft_config)
    return inner


def put_on(recipe: Recipe, base: PreTrainedModel, result: Path) -> Any:
    """The base with an adapter beside it, as peft's model; RecipeError where it was trained on another one, or the
    folder lacks its weights.
    """
    # Here, because peft takes two seconds to import.
    from peft import PeftModel

    if not (result / WEIGHTS).is_file():
        raise RecipeError([Problem("RUN", f"{result} has no {WEIGHTS}; put that file back, or train again")])
    trained = json.loads((result / SETTINGS).read_text(encoding="utf-8"))["base_model_name_or_path"]
    # A base may lie elsewhere by now, under its own name.
    if recipe.model.name != trained and Path(recipe.model.name or "").name != Path(trained).name:
        message = f"{recipe.model.name} is not what {result} was trained on, {trained}; leave it out"
        raise RecipeError([Problem("model.name", message)])
    try:
        return PeftModel.from_pretrained(base, str(result))
    except (RuntimeError, ValueError) as error:
        # The first line only says that there are some.
        said = (str(error).strip().splitlines() or [type(error).__name__])[:2][-1].strip()
        message = f"{recipe.model.name} has other layers than what {result} was trained on, {trained}: {said}"
        raise RecipeError([Problem("model.name", message)]) from error


def base_of(recipe: Recipe, made: Any, result: Path, tokens: int, keys: dict[str, Any]) -> PreTrainedModel:
    """The frozen weights that an adapter was trained on, stored as then, with room for its tokens.

    RecipeError where they do not load.
    """
    level = logging.get_verbosity()
    # A head that comes with the adapter is told as missing.
    logging.set_verbosity_error()
    try:
        trusted = {"trust_remote_code": recipe.model.trust_remote_code}
        config = AutoConfig.from_pretrained(recipe.model.name, revision=recipe.model.revision, **trusted)
        own = AutoConfig.from_pretrained(result, **trusted)
        for name in OF_HEADS:
            setattr(config, name, getattr(own, name, None))
        stored = quantize.loading(recipe)
        base: PreTrainedModel = made.from_pretrained(
            recipe.model.name, revision=recipe.model.revision, config=config, **keys, **stored
        )
        quantize.mend(base)
    except (OSError, ValueError) as error:
        message = f"{recipe.model.name}, which {result} stands on, does not load: {str(error).splitlines()[0]}"
        raise RecipeError([Problem("model.name", message)]) from error
    finally:
        logging.set_verbosity(level)
    if tokens > base.get_input_embeddings().num_embeddings:
        base.resize_token_embeddings(tokens, mean_resizing=False)
    return base
