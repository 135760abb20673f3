"""From the recipe to a model on this process: pretrained weights, or new ones."""

from contextlib import AbstractContextManager, nullcontext

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer import ranks
from trainer.config.recipe import Recipe
from trainer.data.tokenizer import new_tokens
from trainer.errors import Problem, RecipeError
from trainer.model import new_rows
from trainer.model.attention import SEGMENTS, refused
from trainer.model.attention_choice import choose
from trainer.model.isolation import NO_INTERFACE

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def load(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, loading: AbstractContextManager[None]) -> PreTrainedModel:
    """The model in `model.dtype` with the attention that the recipe needs; `loading` is the engine's."""
    wanted, precision = recipe.model.attention, recipe.train.precision
    # None: transformers takes its sdpa, or eager where a model asks for what sdpa drops.
    attention = SEGMENTS if recipe.data.packing else None if wanted == "auto" else wanted
    # A new model is drawn whole on every rank: drawn share by share, its weights would depend on the engine.
    with loading if recipe.model.name else nullcontext():
        model = _made(recipe, tokenizer, attention)
        new = new_tokens(recipe, tokenizer)
        own, vocabulary = len(tokenizer) - len(new), model.get_input_embeddings().num_embeddings
        if own > vocabulary:
            raise RecipeError(
                [Problem("model.tokenizer", f"has {own} tokens, but the model's vocabulary is {vocabulary}")]
            )
        new_rows.make_room(model, new.stop)
    if recipe.data.packing:
        dtype = DTYPES[recipe.model.dtype if precision == "auto" else precision]
        model.set_attn_implementation(choose(model, wanted, dtype, cuda=ranks.accelerators() > 0))
    model.config.use_cache = False
    return model


def _made(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, attention: str | None) -> PreTrainedModel:
    try:
        return _pretrained(recipe, attention) if recipe.model.name else _new(recipe, tokenizer, attention)
    except KeyError as error:
        # Models that choose among attentions of their own look for the name there.
        if error.args == (SEGMENTS,):
            raise refused(NO_INTERFACE) from None
        raise


def _pretrained(recipe: Recipe, attention: str | None) -> PreTrainedModel:
    settings = recipe.model
    try:
        return AutoModelForCausalLM.from_pretrained(
            settings.name,
            revision=settings.revision,
            dtype=DTYPES[settings.dtype],
            attn_implementation=attention,
            trust_remote_code=settings.trust_remote_code,
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RecipeError([Problem("model.name", f"{settings.name!r} does not load: {reason}")]) from error


def _new(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, attention: str | None) -> PreTrainedModel:
    """Random weights by transformers' own initialisation, from `train.seed`: equal on every rank."""
    settings = dict(recipe.model.config or {})
    kind = settings.pop("model_type")
    settings.setdefault("vocab_size", len(tokenizer))
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        settings.setdefault(name, getattr(tokenizer, name))
    config = AutoConfig.for_model(kind, **settings)
    torch.manual_seed(recipe.train.seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32)
    model.generation_config = GenerationConfig.from_model_config(config)
    return model.to(DTYPES[recipe.model.dtype])
