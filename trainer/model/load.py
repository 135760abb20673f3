"""From the recipe to a model on this process: pretrained weights, or new ones."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForImageTextToText,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer import ranks
from trainer.config.classify import Classify
from trainer.config.masked_lm import MaskedLM
from trainer.config.recipe import Recipe
from trainer.data.formats import only_images
from trainer.data.tokenizer import new_tokens, padding_of
from trainer.errors import Problem, RecipeError
from trainer.model import new_rows, quantize
from trainer.model.attention import SEGMENTS, refused
from trainer.model.attention_choice import choose
from trainer.model.isolation import NO_INTERFACE

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


HEADS = {
    "causal_lm": AutoModelForCausalLM,
    "classify": AutoModelForSequenceClassification,
    "rerank": AutoModelForSequenceClassification,
    "seq2seq": AutoModelForSeq2SeqLM,
    "image_text": AutoModelForImageTextToText,
    "joint_relations": AutoModel,
    "kg_completion": AutoModel,
    "masked_lm": AutoModelForMaskedLM,
    "multi_task": AutoModel,
    "relations": AutoModel,
    "token_labels": AutoModelForTokenClassification,
}
"""What transformers loads, by `task.kind`."""


def head_for(recipe: Recipe) -> Any:
    """What transformers loads for the task and the rows of a recipe."""
    if isinstance(recipe.task, MaskedLM) and recipe.task.next_sentence:
        return AutoModelForPreTraining
    if isinstance(recipe.task, Classify) and recipe.task.pooling == "mean":
        return AutoModel
    return AutoModelForImageClassification if only_images(recipe.data) else HEADS[recipe.task.kind]


PROBLEMS = {
    "single": "single_label_classification",
    "multiple": "multi_label_classification",
    "ordinal": "multi_label_classification",
    "regression": "regression",
}
"""What transformers calls the values of `task.problem`."""
ORDINAL = "ordinal_labels"
"""Where the configuration of a model keeps labels of an order; its head has one output for each but the highest."""
THRESHOLD = "label_threshold"
"""Where it keeps the probability from which one of several labels is said."""


def load(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerBase,
    loading: AbstractContextManager[None],
    labels: Sequence[str] | None = None,
) -> PreTrainedModel:
    """The model in `model.dtype` with the attention that the recipe needs; `loading` is the engine's.

    `labels` are the outputs of a classifier's head, which is drawn from `train.seed` where the weights have none.
    """
    wanted, precision = recipe.model.attention, recipe.train.precision
    # None: transformers takes its sdpa, or eager where a model asks for what sdpa drops.
    attention = SEGMENTS if recipe.data.packing else None if wanted == "auto" else wanted
    # A new model is drawn whole on every rank: drawn share by share, its weights would depend on the engine.
    with loading if recipe.model.name else nullcontext():
        model = _made(recipe, tokenizer, attention, labels)
        if only_images(recipe.data):
            return model
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
    if head_for(recipe) is AutoModel:
        _rest_pooler(model)
    if head_for(recipe) is AutoModelForSequenceClassification:
        _make_heads_find_their_token(model, tokenizer)
    return model


def _rest_pooler(model: PreTrainedModel) -> None:
    """Heads of our own read hidden states: what a body makes of the first one gets no gradient, and does not train."""
    pooler = getattr(model, "pooler", None)
    if pooler is not None:
        pooler.requires_grad_(False)


def _make_heads_find_their_token(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """A decoder's head looks at the last token that is no padding, that of an encoder-decoder at the end of text."""
    model.config.get_text_config().pad_token_id = model.config.pad_token_id = padding_of(tokenizer)
    if model.config.is_encoder_decoder and tokenizer("a")["input_ids"][-1] != model.config.eos_token_id:
        message = "does not end a text with the model's end-of-text token, which its head for labels looks at"
        raise RecipeError([Problem("model.tokenizer", f"{message}; name the tokenizer that the model came with")])


def _made(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase, attention: str | None, labels: Sequence[str] | None
) -> PreTrainedModel:
    kind, head = head_for(recipe), dict[str, Any]()
    if labels is not None and isinstance(recipe.task, Classify) and recipe.task.problem == "ordinal":
        head[ORDINAL], labels = list(labels), [f"above {name}" for name in labels[:-1]]
    if labels is not None:
        names = [name or "LABEL_0" for name in labels]
        head["id2label"] = dict(enumerate(names))
        head["label2id"] = {name: number for number, name in enumerate(names)}
    if isinstance(recipe.task, Classify):
        head["problem_type"] = PROBLEMS[recipe.task.problem]
        if recipe.task.problem == "multiple":
            head[THRESHOLD] = recipe.task.threshold
    torch.manual_seed(recipe.train.seed)
    try:
        if recipe.model.name:
            return _pretrained(recipe, kind, head, attention)
        return _new(recipe, tokenizer, kind, head, attention)
    except KeyError as error:
        # Models that choose among attentions of their own look for the name there.
        if error.args == (SEGMENTS,):
            raise refused(NO_INTERFACE) from None
        raise


def _pretrained(recipe: Recipe, kind: Any, head: dict[str, Any], attention: str | None) -> PreTrainedModel:
    settings = recipe.model
    try:
        config = AutoConfig.from_pretrained(
            settings.name, revision=settings.revision, trust_remote_code=settings.trust_remote_code
        )
        _check_head(recipe, config, "model.name")
        # What a configuration does not know from the first is refused as a keyword.
        for name, value in head.items():
            setattr(config, name, value)
        model: PreTrainedModel = kind.from_pretrained(
            settings.name,
            config=config,
            revision=settings.revision,
            dtype=DTYPES[settings.dtype],
            attn_implementation=attention,
            trust_remote_code=settings.trust_remote_code,
            **quantize.loading(recipe),
        )
        quantize.mend(model)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RecipeError([Problem("model.name", f"{settings.name!r} does not load: {reason}")]) from error
    return model


def _check_head(recipe: Recipe, config: PretrainedConfig, key: str) -> None:
    """RecipeError where transformers has no such model with the task's head; code of its own may bring one."""
    made = head_for(recipe)
    if type(config) not in made._model_mapping and not getattr(config, "auto_map", None):
        message = f"a {config.model_type} has no head for task.kind: {recipe.task.kind} ({made.__name__} knows none)"
        raise RecipeError([Problem(key, f"{message}; name another model, or set another task.kind")])


def _new(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase, made: Any, head: dict[str, Any], attention: str | None
) -> PreTrainedModel:
    """Random weights by transformers' own initialisation, from `train.seed`: equal on every rank."""
    settings = dict(recipe.model.config or {})
    kind = settings.pop("model_type")
    if not only_images(recipe.data):
        settings.setdefault("vocab_size", len(tokenizer))
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            settings.setdefault(name, getattr(tokenizer, name))
    if type(AutoConfig.for_model(kind)) in AutoModelForSeq2SeqLM._model_mapping:
        # As T5 and Marian: what is written begins after the token that fills rows up.
        settings.setdefault("decoder_start_token_id", padding_of(tokenizer))
        settings.setdefault("forced_eos_token_id", None)
    config = AutoConfig.for_model(kind, **settings, **head)
    _check_head(recipe, config, "model.config")
    model: PreTrainedModel = made.from_config(config, attn_implementation=attention, dtype=torch.float32)
    if recipe.task.writes:
        model.generation_config = GenerationConfig.from_model_config(config)
    return model.to(DTYPES[recipe.model.dtype])
