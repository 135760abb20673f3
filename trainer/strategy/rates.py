"""What the learning rate of each parameter is of `optimizer.lr`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainer.config.optimizer import Optimizer
from trainer.config.recipe import Recipe
from trainer.config.strategy import Discriminative
from trainer.parameter import Parameter
from trainer.strategy.layers import Layers, is_below

_LORA_B = ".lora_B."
_ADAPTER = re.compile(r"(?<!modules_to_save)\.default(?:\.|$)|(?:^|\.)prompt_encoder\.")
"""peft's name of what it adds, but for heads that train beside their frozen copies; and what stands before rows."""


@dataclass(frozen=True)
class Rate:
    """One rate, and what it is called by."""

    name: str
    """Such as `layer 3`, `head`, `layer 3, lora_b`."""
    scale: float
    """On `optimizer.lr`."""


def settings_of(recipe: Recipe) -> Optimizer:
    """The optimizer's settings with the decay over layers that the strategy brings along."""
    own = recipe.optimizer
    if own.layer_decay is None and isinstance(recipe.strategy, Discriminative):
        return own.model_copy(update={"layer_decay": recipe.strategy.decay})
    return own


def rates(settings: Optimizer, listed: Sequence[Parameter]) -> Mapping[str, Rate]:
    """The rate of each parameter of a whole model, by name.

    A head has the full rate, each layer `layer_decay` of the one above it, embeddings that of a layer below the first
    (Clark et al. 2020, section 3.2; Bao et al. 2022); what stands behind the layers counts as the head.
    """
    layers, decay = Layers(listed), settings.layer_decay or 1.0
    return {one.name: _rate(settings, one, layers, decay) for one in listed}


def _rate(settings: Optimizer, one: Parameter, layers: Layers, decay: float) -> Rate:
    number, part = layers.of(one), "head"
    if number is not None:
        below, part = len(layers) - number, "layer"
    elif is_below(one):
        below, part = len(layers) + 1, "embeddings"
    else:
        below = 0
    words = ["others" if part == "head" and one.part != "head" else part if number is None else f"layer {number}"]
    scale = decay**below
    if one.part == "head":
        scale *= settings.rates.get("head", 1.0)
    elif part == "embeddings" and not _ADAPTER.search(one.name):
        scale *= settings.rates.get("embeddings", 1.0)
    if _LORA_B in one.name and "lora_b" in settings.rates:
        words.append("lora_b")
        scale *= settings.rates["lora_b"]
    elif _ADAPTER.search(one.name) and "adapter" in settings.rates:
        words.append("adapter")
        scale *= settings.rates["adapter"]
    same = decay == 1.0 and part == "layer"
    return Rate(", ".join(["layers", *words[1:]] if same else words), scale)
