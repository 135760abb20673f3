"""Which parameters share a rate and a weight decay."""

from typing import Any

from torch import nn


def groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices decay; norms, biases and other vectors do not.

    Under ZeRO-3 a parameter's own shape is empty, and `ds_shape` holds the real one.
    """
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            shape = getattr(parameter, "ds_shape", parameter.shape)
            (decayed if len(shape) >= 2 else others).append(parameter)
    listed = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in listed if group["params"]]
