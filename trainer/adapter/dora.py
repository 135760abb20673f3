"""DoRA: LoRA on the direction of each target, and a trained length of each of its outputs (Liu et al. 2024, arXiv
2402.09353), by peft.
"""

from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from trainer.adapter import lora
from trainer.adapter.adapted import Adapted
from trainer.adapter.wrap import wrap
from trainer.config.adapter import Dora
from trainer.config.recipe import Recipe


def apply(model: PreTrainedModel, recipe: Recipe, new_tokens: range) -> Adapted:
    """The frozen model with DoRA beside its targets."""
    settings = recipe.adapter
    assert isinstance(settings, Dora), "the table of methods goes by kind"
    adapted = wrap(model, recipe, new_tokens, lambda targets: lora.configured(settings, targets, use_dora=True))
    _keep_weights_where_norms_are_taken(model)
    _keep_weights_of_8_bits(model)
    return adapted


def _keep_weights_where_norms_are_taken(model: nn.Module) -> None:
    """ZeRO-3 lets the weight of a target go as soon as its product is there; its norm is taken after that."""
    for layer in _layers(model):
        if hasattr(layer.base_layer.weight, "ds_id"):
            one = layer.lora_magnitude_vector["default"]
            one.forward = partial(_forward, one.forward)


def _keep_weights_of_8_bits(model: nn.Module) -> None:
    """On a processor peft puts another weight in the place of one of 8 bits that it looks at, without the scales that
    bitsandbytes needs for the next product.
    """
    for layer in _layers(model):
        if layer.base_layer.weight.dtype == torch.int8:
            one = layer.lora_magnitude_vector["default"]
            one.forward = partial(_put_back, one.forward)


def _layers(model: nn.Module) -> list[Any]:
    return [one for one in model.modules() if "default" in getattr(one, "lora_magnitude_vector", {})]


def _put_back(forward: Any, *args: Any, **kwargs: Any) -> Any:
    layer = kwargs["base_layer"]
    weight = layer.weight
    try:
        return forward(*args, **kwargs)
    finally:
        layer.weight = weight


def _forward(forward: Any, *args: Any, **kwargs: Any) -> Any:
    looked_at = [kwargs[name].weight for name in ("base_layer", "lora_A", "lora_B")]
    gone = [weight for weight in looked_at if weight.ds_status.name == "NOT_AVAILABLE"]
    for weight in gone:
        weight.all_gather(param_list=[weight])
    try:
        return forward(*args, **kwargs)
    finally:
        for weight in gone:
            if weight.ds_status.name == "AVAILABLE" and not weight.ds_active_sub_modules:
                weight.partition(param_list=[weight], has_been_updated=False)
