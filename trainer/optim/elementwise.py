"""Optimizers that look at each value of a weight alone, so that weights are stepped in chunks, by vendors' kernels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from trainer.kernels.vendor import bitsandbytes

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What Adam keeps of a weight, as torch calls it."""
Tensors = list[torch.Tensor]
Group = Mapping[str, Any]


def _adam(kernel: Callable[..., None], chunk: "Chunk", group: Group) -> None:
    """Kingma and Ba 2015; the weight decay of adamw is decoupled (Loshchilov and Hutter 2019)."""
    beta1, beta2 = group["betas"]
    kernel(
        chunk.values,
        chunk.gradients,
        *chunk.moments,
        [],
        chunk.steps,
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
        grad_scale=chunk.divisor,
    )


def _sgd(chunk: "Chunk", group: Group) -> None:
    """With momentum as torch has it: the weight decay is part of the gradient. A buffer begins at 0."""
    torch._fused_sgd_(
        chunk.values,
        chunk.gradients,
        chunk.moments[0] if chunk.moments else [],
        weight_decay=group["weight_decay"],
        momentum=group["momentum"] if chunk.moments else 0.0,
        lr=group["lr"],
        dampening=0.0,
        nesterov=False,
        maximize=False,
        is_first_step=False,
        grad_scale=chunk.divisor,
    )


def _by_bitsandbytes(name: str, chunk: "Chunk", group: Group) -> None:
    """Piece by piece; moments are float32, and may lie in memory that the device pages in."""
    if chunk.divisor is not None:
        torch._foreach_div_(chunk.gradients, chunk.divisor)
    beta1, beta2 = group["betas"]
    for number, (value, gradient) in enumerate(zip(chunk.values, chunk.gradients, strict=True)):
        first, *second = (moments[number] for moments in chunk.moments)
        bitsandbytes().optimizer_update_32bit(
            name,
            gradient,
            value,
            first,
            beta1,
            group["eps"],
            int(chunk.steps[number]),
            group["lr"],
            state2=second[0] if second else None,
            beta2=beta2,
            weight_decay=group["weight_decay"],
        )


@dataclass
class Chunk:
    """Pieces of weights that are stepped together; all lists go piece by piece."""

    values: Tensors
    gradients: Tensors
    moments: list[Tensors]
    steps: Tensors
    """The number of this step, from 1, on the device of the values."""
    divisor: torch.Tensor | None
    """What gradients are divided by."""


@dataclass(frozen=True)
class Elementwise:
    """One rule."""

    moments: tuple[str, ...]
    """What is kept of each value."""
    update: Callable[[Chunk, Group], None]
    """Steps the values and the moments in place."""
    wide: bool = False
    """Whether moments are float32 wherever they are not rounded with the weights."""


ELEMENTWISE = {
    "adamw": Elementwise(MOMENTS, partial(_adam, torch._fused_adamw_)),
    "adam": Elementwise(MOMENTS, partial(_adam, torch._fused_adam_)),
    "paged": Elementwise(MOMENTS, partial(_by_bitsandbytes, "adam"), wide=True),
    # Chen et al. 2023, arXiv 2302.06675
    "lion": Elementwise(MOMENTS[:1], partial(_by_bitsandbytes, "lion"), wide=True),
    "sgd": Elementwise((), _sgd),
    "momentum": Elementwise(("momentum_buffer",), _sgd),
}
"""By a group's `form`."""
