"""A linear layer and its LoRA as one product: the small one is added in place, and nothing of its size is kept.

Shapes: T tokens, H inputs, O outputs, R rank.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from trainer.kernels.vendor import bitsandbytes
from trainer.model.products import affine, product


def fuse(model: nn.Module) -> int:
    """Lets every plain LoRA layer of peft run as one function; how many there are.

    Only where the weights of every process are whole between passes: no hook of the layers inside is called.
    """
    kinds = _kinds(model)
    layers = [module for module in model.modules() if type(module) in kinds and _is_plain(module)]
    for layer in layers:
        layer.forward = partial(_forward, layer)
    return len(layers)


@contextmanager
def undone(model: nn.Module) -> Iterator[None]:
    """Peft's own forward of each layer within it."""
    fused = {
        module: vars(module).pop("forward")
        for module in model.modules()
        if isinstance(own := vars(module).get("forward"), partial) and own.func is _forward
    }
    try:
        yield
    finally:
        for module, forward in fused.items():
            module.forward = forward


def _kinds(model: nn.Module) -> tuple[type, ...]:
    """The layers of peft that stand beside a linear layer, and where there are any beside one of 4 bits."""
    from peft.tuners.lora.layer import Linear

    if not any(hasattr(weight, "quant_state") for weight in model.parameters()):
        return (Linear,)
    from peft.tuners.lora.bnb import Linear4bit

    return (Linear, Linear4bit)


def _is_plain(layer: Any) -> bool:
    """Whether a layer holds one adapter without dropout, biases or variants beside a plain linear layer."""
    names = list(layer.lora_A)
    return (
        (type(layer.base_layer) is nn.Linear or hasattr(layer.base_layer.weight, "quant_state"))
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
    state = getattr(base.weight, "quant_state", None)
    output: torch.Tensor = _LoraLinear.apply(inputs, base.weight, base.bias, down, up, layer.scaling[name], state)  # type: ignore[no-untyped-call]
    return output


def _whole(weight: torch.Tensor, state: Any, dtype: torch.dtype) -> torch.Tensor:
    """A weight [O, H] in a type; made of its 4 bits for the while where a state says how."""
    return weight.to(dtype) if state is None else bitsandbytes().dequantize_4bit(weight.data, state).to(dtype)


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
        state: Any,
    ) -> torch.Tensor:
        """Of inputs [..., H], weight [O, H], down [R, H], up [O, R]; `state` says how a weight in 4 bits is made."""
        device = inputs.device.type
        own = weight.dtype if state is None else state.dtype
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else own
        base = _whole(weight, state, dtype)
        flat, a, b = (one.to(dtype) for one in (inputs.reshape(-1, inputs.shape[-1]), down, up))
        within = product(flat, a)
        output = affine(flat, base, None if bias is None else bias.to(dtype)).addmm_(within, b.t(), alpha=scale)
        ctx.save_for_backward(flat, base if state is None else weight, a, b, within)
        ctx.scale, ctx.shape, ctx.dtypes = scale, inputs.shape, (inputs.dtype, weight.dtype, down.dtype, up.dtype)
        ctx.state = state
        return output.view(*inputs.shape[:-1], len(base))

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        flat, weight, a, b, within = ctx.saved_tensors
        base = _whole(weight, ctx.state, flat.dtype)
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
        return d_inputs, d_weight, d_bias, d_down, d_up, None, None
