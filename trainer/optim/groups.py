"""Which parameters share a rate, a weight decay and the bits of their moments."""

import math
from typing import Any

from torch import nn

from trainer.plan.memory import LEAST_8BIT


def groups(module: nn.Module, weight_decay: float, *, eight_bit: bool = False) -> list[dict[str, Any]]:
    """Trainable parameters in groups: matrices decay; norms, biases and other vectors do not.

    With `eight_bit`, moments of matrices are kept in 8 bits, but for those of embeddings, whose gradients are uneven
    (Dettmers et al. 2021, section 2.3), and of small ones.
    """
    embeddings = {id(one.weight) for one in module.modules() if isinstance(one, nn.Embedding)}
    found: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            shape = _shape(parameter)
            short = eight_bit and math.prod(shape) >= LEAST_8BIT and id(parameter) not in embeddings
            found.setdefault((len(shape) >= 2, short), []).append(parameter)
    order = [(True, False), (True, True), (False, False), (False, True)]
    return [
        {"params": found[key], "weight_decay": weight_decay if key[0] else 0.0, "eight_bit": key[1]}
        for key in order
        if key in found
    ]


def _shape(parameter: nn.Parameter) -> tuple[int, ...]:
    """The whole shape; under ZeRO-3 a parameter's own one is empty, and `ds_shape` holds the real one."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))
