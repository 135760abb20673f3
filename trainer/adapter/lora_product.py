"""A linear layer and its LoRA as one product: the small one is added in place, and nothing of its size is kept.

Shapes: T tokens, H inputs, O outputs, R rank.
"""

from functools import partial
from typing import Any

import torch
from torch import nn

from trainer.model.products import affine, product


def fuse(model: nn.Module) -> int:
    """Lets every plain LoRA layer of peft run as one function; how many there are.

    Only where the weights of every process are whole between passes: no hook of the layers inside is called.
    """
    from peft.tuners.lora.layer import Linear

    layers = [module for module in model.modules() if type(module) is Linear and _is_plain(module)]
    for layer in layers:
        layer.forward = partial(_forward, layer)
    return len(layers)


def _is_plain(layer: Any) -> bool:
    """Whether a layer holds one adapter without dropout, biases or variants beside a plain linear layer."""
    names = list(layer.lora_A)
    return (
        type(layer.base_layer) is nn.Linear
        and len(names) == 1
        and not layer.lora_variant
        and not layer.fan_in_fan_out
        and isinstance(layer.lora_dropout[names[0]], nn.Identity)
        and layer.lora_B[names[0]].bias is None
    )


def _forward(layer: Any, inputs: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    (name,) = layer.lora_A
    if args or kwargs or layer.disable_adapters or layer.merged or layer.active_adapters != [name]:
        return type(layer).forward(layer, inputs, *args, **kwargs)  # type: ignore[no-any-return]
    down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
    base = layer.base_layer
    output: torch.Tensor = _LoraLinear.apply(inputs, base.weight, base.bias, down, up, layer.scaling[name])  # type: ignore[no-untyped-call]
    return output


class _LoraLinear(torch.autograd.Function):
    """inputs W^T + bias + scale * (inputs A^T) B^T; Hu et al. 2021, equation 3."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """Of inputs [..., H], weight [O, H], down [R, H], up [O, R]."""
        device = inputs.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        flat, base, a, b = (one.to(dtype) for one in (inputs.reshape(-1, inputs.shape[-1]), weight, down, up))
        within = product(flat, a)
        output = affine(flat, base, None if bias is None else bias.to(dtype)).addmm_(within, b.t(), alpha=scale)
        ctx.save_for_backward(flat, base, a, b, within)
        ctx.scale, ctx.shape, ctx.dtypes = scale, inputs.shape, (inputs.dtype, weight.dtype, down.dtype, up.dtype)
        return output.view(*inputs.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        flat, base, a, b, within = ctx.saved_tensors
        d_output = outer[0].reshape(-1, len(base)).to(flat.dtype)
        wanted = ctx.needs_input_grad
        d_within = product(d_output, b.t()).mul_(ctx.scale)
        d_inputs = d_weight = None
        if wanted[0]:
            d_inputs = product(d_output, base.t()).addmm_(d_within, a).view(ctx.shape).to(ctx.dtypes[0])
        if wanted[1]:
            d_weight = product(d_output.t(), flat.t()).to(ctx.dtypes[1])
        d_bias = d_output.sum(0) if wanted[2] else None
        d_down = product(d_within.t(), flat.t()).to(ctx.dtypes[2]) if wanted[3] else None
        d_up = product(d_output.t(), within.t()).mul_(ctx.scale).to(ctx.dtypes[3]) if wanted[4] else None
        return d_inputs, d_weight, d_bias, d_down, d_up, None
