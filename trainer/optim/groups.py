"""Which parameters share a rate, a weight decay and the bits of their moments."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import nn

from trainer.config.optimizer import Optimizer
from trainer.parameter import parameter
from trainer.plan.moments import form
from trainer.strategy.course import Since
from trainer.strategy.rates import Rate, rates

Key = tuple[Rate, bool, str, int]
"""The rate, whether weights decay, the form, and the phase in which weights began to train."""
NO_PHASES: Since = MappingProxyType({})
"""Where all that trains does so from the first step."""


def groups(settings: Optimizer, module: nn.Module, since: Since = NO_PHASES) -> list[dict[str, Any]]:
    """Trainable parameters in groups: matrices decay; norms, biases and other vectors do not. `scale` is what the rate
    of a group is of the run's, `rate` what it is called by. Weights that began to train in different phases stand in
    different groups, because DeepSpeed counts the steps of a group. `form` is the rule by which they are stepped.
    """
    named = dict(module.named_parameters())
    listed = {name: parameter(name, shape_of(weight)) for name, weight in named.items()}
    scales = rates(settings, [*listed.values()])
    embeddings = {id(one.weight) for one in module.modules() if isinstance(one, nn.Embedding)}
    found: dict[Key, list[nn.Parameter]] = {}
    for name, weight in named.items():
        if weight.requires_grad:
            rule = form(settings, listed[name], embeds=id(weight) in embeddings)
            key = (scales[name], len(listed[name].shape) >= 2, rule, since.get(weight, 0))
            found.setdefault(key, []).append(weight)
    # Where all have one rate, their names tell nothing.
    if len({rate.scale for rate, *_ in found}) == 1:
        found = _as_one(found)
    return [
        {
            "params": weights,
            "weight_decay": settings.weight_decay if decays else 0.0,
            "form": rule,
            "scale": rate.scale,
            "rate": rate.name,
        }
        for (rate, decays, rule, _), weights in sorted(found.items(), key=lambda item: not item[0][1])
    ]


def _as_one(found: dict[Key, list[nn.Parameter]]) -> dict[Key, list[nn.Parameter]]:
    """The same groups whatever their rates are called."""
    joined: dict[Key, list[nn.Parameter]] = {}
    for (rate, decays, rule, began), weights in found.items():
        joined.setdefault((Rate("all", rate.scale), decays, rule, began), []).extend(weights)
    return joined


def shape_of(parameter: nn.Parameter) -> tuple[int, ...]:
    """The whole shape; under ZeRO-3 a parameter's own one is empty, and `ds_shape` holds the real one."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


@dataclass(frozen=True)
class Shown:
    """What is told of the parameters of one rate."""

    rate: str
    scale: float
    size: int
    """Values."""


def shown(made: Sequence[Mapping[str, Any]]) -> list[Shown]:
    """Of groups, the highest rate first."""
    sizes: dict[tuple[str, float], int] = {}
    for group in made:
        size = sum(math.prod(shape_of(weight)) for weight in group["params"])
        key = (group["rate"], group["scale"])
        sizes[key] = sizes.get(key, 0) + size
    return sorted((Shown(*key, size) for key, size in sizes.items()), key=lambda one: -one.scale)


def in_words(rows: Sequence[Shown], total: int) -> str:
    """What trains of so many values, and at which part of the rate."""
    trained = sum(row.size for row in rows)
    first = f"{trained:,} of {total:,} parameters train ({trained / total:.2%})"
    if len(rows) == 1 and rows[0].scale == 1.0:
        return f"{first}."
    width, wide = max(len(row.rate) for row in rows), max(len(f"{row.size:,}") for row in rows)
    lines = [f"  {row.rate:<{width}}  {row.size:>{wide},}  rate x {row.scale:.4g}" for row in rows]
    return "\n".join([f"{first}:", *lines])
