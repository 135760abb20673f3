"""What stands before each row of a model: trained embeddings, or trained keys and values of every layer.

It enters where the model's body does, so that heads, losses and generation see hidden states of the row alone. Shapes:
B rows, S tokens, P of those that stand before, H hidden size.
"""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel

from trainer.adapter.adapted import Adapted, Tensors
from trainer.adapter.wrap import task_of, write
from trainer.config.adapter import Prompted
from trainer.config.recipe import Recipe
from trainer.errors import Problem, RecipeError

_ENCODER = "prompt_encoder"
"""Where the model holds what makes them."""
_CACHES = ("cache", "past_key_values")
"""What transformers calls them, the newer name first."""
_PLACES = re.compile(r"(?:^|\.)(?:wpe|position_embeddings|embed_positions)\.weight$")
"""Embeddings of places."""
_HEAD = ".modules_to_save.default"
"""What peft calls a head that trains beside its frozen copy."""


@dataclass(frozen=True)
class Before:
    """What stands before rows."""

    encoder: nn.Module
    """Numbers [1, P] -> [1, P, H], or all keys and values of a token behind each other."""
    tokens: int
    layers: tuple[int, int] | None
    """Layers, and heads of keys, where they are keys and values."""
    kept: bool
    """Whether hidden states of what stands before are kept: a head of an encoder looks at the first position of all."""

    def made(self, rows: int) -> torch.Tensor:
        """[B, P, ...], equal for all rows."""
        device = next(self.encoder.parameters()).device
        found: torch.Tensor = self.encoder(torch.arange(self.tokens, device=device)[None])
        return found.expand(rows, -1, -1)


def wrap(model: PreTrainedModel, recipe: Recipe, configure: Callable[[str], Any]) -> Adapted:
    """The frozen model behind what a configuration of peft makes; heads of transformers train too.

    RecipeError where the model has no place for it.
    """
    # Here, because peft takes two seconds to import.
    from peft import get_peft_model

    assert isinstance(recipe.adapter, Prompted), "the table of methods goes by kind"
    _fits(model, recipe)
    torch.manual_seed(recipe.train.seed)
    wrapped: Any = get_peft_model(model, configure(task_of(recipe)), autocast_adapter_dtype=False)
    model.disable_input_require_grads()
    encoder = wrapped.prompt_encoder["default"].to(model.dtype)
    attach(model, encoder, wrapped.peft_config["default"])
    added = tuple(name for name, one in model.named_parameters() if one.requires_grad)

    def save(folder: Path, tensors: Tensors) -> Tensors:
        own = {name.removeprefix(f"{_ENCODER}."): one for name, one in tensors.items() if name.startswith(_ENCODER)}
        heads = {f"base_model.{name.replace(_HEAD, '')}": one for name, one in tensors.items() if _HEAD in name}
        config = copy.deepcopy(wrapped.peft_config["default"])
        made = own["embedding.weight"] if len(own) == 1 else _made(type(encoder)(config).to(model.dtype), own)
        return write(folder, recipe, config, {"prompt_embeddings": made, **heads})

    return Adapted(model, added, save)


@torch.no_grad()
def _made(encoder: nn.Module, tensors: Tensors) -> torch.Tensor:
    """What an encoder of these weights makes: [P, H], or [P, keys and values]."""
    encoder.load_state_dict(tensors)
    found: torch.Tensor = encoder(torch.arange(tensors["embedding.weight"].shape[0])[None])
    return found[0]


def _fits(model: PreTrainedModel, recipe: Recipe) -> None:
    """RecipeError where a model has no places for so many tokens, or no decoder for keys and values."""
    adapter, config = recipe.adapter, model.config.get_text_config()
    assert isinstance(adapter, Prompted), "the table of methods goes by kind"
    places, tokens = getattr(config, "max_position_embeddings", None), recipe.data.max_length + adapter.tokens
    # Only those that have a row for each place run out of them.
    if places and tokens > places and any(_PLACES.search(name) for name, _ in model.named_parameters()):
        message = f"and the {adapter.tokens} tokens of {adapter.kind} need {tokens} places, and the model has {places}"
        raise RecipeError([Problem("data.max_length", f"{recipe.data.max_length} {message}; set it lower")])
    decodes = recipe.task.kind == "causal_lm" or hasattr(model, "score")
    if adapter.kind == "prefix" and not decodes:
        message = f"prefix stands before the keys and values of decoders, and this {config.model_type} is none"
        raise RecipeError([Problem("adapter.kind", f"{message}; take prompt or p_tuning")])


def attach(model: PreTrainedModel, encoder: nn.Module, config: Any) -> None:
    """Lets what an encoder of peft makes stand before each row of the model."""
    model.add_module(_ENCODER, encoder)
    prefix = str(config.peft_type.value) == "PREFIX_TUNING"
    layers = (config.num_layers, config.num_attention_heads) if prefix else None
    pools = hasattr(model, "classifier") and config.task_type == "SEQ_CLS"
    before = Before(encoder, config.num_virtual_tokens, layers, kept=pools)
    if model.config.is_encoder_decoder:
        model.get_encoder().register_forward_pre_hook(partial(_embeddings, model, before), with_kwargs=True)
        model.get_decoder().register_forward_pre_hook(partial(_seen, before), with_kwargs=True)
        return
    body = model.base_model
    if layers:
        body.register_forward_pre_hook(partial(_keys_and_values, model, before), with_kwargs=True)
        return
    body.register_forward_pre_hook(partial(_embeddings, model, before), with_kwargs=True)
    body.register_forward_hook(partial(_cut, before), with_kwargs=True)


def _named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a body is given, the tokens by their name."""
    return {"input_ids": args[0], **kwargs} if args else dict(kwargs)


def _cache(kwargs: dict[str, Any]) -> Any:
    """Keys and values of tokens that were seen before, under either of the names that transformers has for them."""
    return next((kwargs[name] for name in _CACHES if kwargs.get(name) is not None), None)


def _goes_on(kwargs: dict[str, Any]) -> bool:
    """Whether the beginning of a row was seen before."""
    past = _cache(kwargs)
    return past is not None and past.get_seq_length() > 0


def _moved(before: Before, given: dict[str, Any], rows: int) -> None:
    """Mask and positions [B, S] with room for what stands before."""
    mask, places = given.get("attention_mask"), given.get("position_ids")
    if mask is not None:
        given["attention_mask"] = torch.cat([mask.new_ones(rows, before.tokens), mask], dim=1)
    if places is not None:
        given["position_ids"] = places + before.tokens
    given.pop("cache_position", None)


def _embeddings(
    model: PreTrainedModel, before: Before, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """[B, P + S, H] for tokens [B, S]."""
    given = _named(args, kwargs)
    ids = given.get("input_ids")
    if ids is None:
        return args, kwargs
    rows, goes_on = ids.shape[0], _goes_on(given)
    _moved(before, given, rows)
    if not goes_on:
        own = model.get_input_embeddings()(ids)
        given["inputs_embeds"] = torch.cat([before.made(rows).to(own.dtype), own], dim=1)
        given.pop("input_ids")
        if given.get("position_ids") is not None:
            first = torch.arange(before.tokens, device=ids.device).expand(rows, -1)
            given["position_ids"] = torch.cat([first, given["position_ids"]], dim=1)
        if given.get("token_type_ids") is not None:
            types = given["token_type_ids"]
            given["token_type_ids"] = torch.cat([types.new_zeros(rows, before.tokens), types], dim=1)
    return (), given


def _cut(before: Before, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], said: Any) -> Any:
    """Hidden states [B, S, H] of the rows themselves."""
    if not before.kept and kwargs.get("inputs_embeds") is not None:
        said.last_hidden_state = said.last_hidden_state[:, before.tokens :]
    return said


def _seen(
    before: Before, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A decoder looks at what its encoder made of what stands before, too."""
    mask, read = kwargs.get("encoder_attention_mask"), kwargs.get("encoder_hidden_states")
    if mask is not None and read is not None and mask.shape[1] < read.shape[1]:
        wider = torch.cat([mask.new_ones(mask.shape[0], before.tokens), mask], dim=1)
        kwargs = {**kwargs, "encoder_attention_mask": wider}
    return args, kwargs


def _keys_and_values(
    model: PreTrainedModel, before: Before, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Keys and values of P tokens in every layer for tokens [B, S]."""
    given = _named(args, kwargs)
    rows = (given["input_ids"] if given.get("input_ids") is not None else given["inputs_embeds"]).shape[0]
    goes_on = _goes_on(given)
    _moved(before, given, rows)
    if not goes_on:
        assert before.layers is not None, "keys and values are those of layers"
        layers, heads = before.layers
        # peft lays them out as [B, P, keys and values of one layer behind those of another, heads, size].
        made = before.made(rows).to(model.dtype).view(rows, before.tokens, layers, 2, heads, -1)
        cache = _cache(given)
        if cache is None:
            cache = DynamicCache(config=model.config.get_text_config(decoder=True))
            known = signature(body.forward).parameters
            given[next(name for name in _CACHES if name in known)] = cache
        for layer, (keys, values) in enumerate(made.permute(2, 3, 0, 4, 1, 5)):
            cache.update(keys, values, layer)
    return (), given
