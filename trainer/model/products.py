"""Float32 products of linear layers through oneDNN, where torch would take a slower library.

torch multiplies float32 by MKL, which runs at a fraction of the speed on processors that are not Intel's. The products
are float32 all through. Shapes: T tokens, H inputs, O outputs of a layer.
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trainer.kernels import library


def linear(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Outputs [..., O] of inputs [..., H], weight [O, H] and bias [O]."""
    if not serves(inputs, weight):
        return functional.linear(inputs, weight, bias)
    output: torch.Tensor = _Linear.apply(inputs, weight, bias)  # type: ignore[no-untyped-call]
    return output


def forward(module: nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
    """Stands in the place of a linear layer's own forward."""
    return linear(inputs, module.weight, module.bias)


def serves(inputs: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether these are float32 products on a processor where oneDNN is the faster one."""
    alike = inputs.dtype == weight.dtype == torch.float32 and library.serve(inputs)
    return alike and not torch.is_autocast_enabled("cpu") and _slow_at_mkl()


def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The product [T, O] of left [T, H] and the transpose of right [O, H], by the faster library; views are welcome."""
    return affine(left, right, None)


def affine(left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The same plus bias [O], without a gradient."""
    if not serves(left, right):
        return functional.linear(left, right, bias)
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return result


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        flat = inputs.reshape(-1, inputs.shape[-1])
        ctx.save_for_backward(flat, weight)
        ctx.shape = inputs.shape
        return affine(flat, weight, bias).view(*inputs.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        inputs, weight = ctx.saved_tensors
        d_output = outer[0].reshape(-1, len(weight))
        wanted = ctx.needs_input_grad
        d_inputs = product(d_output, weight.t()).view(ctx.shape) if wanted[0] else None
        d_weight = product(d_output.t(), inputs.t()) if wanted[1] else None
        return d_inputs, d_weight, d_output.sum(0) if wanted[2] else None


@cache
def _slow_at_mkl() -> bool:
    """Whether this is an x86 processor that is not Intel's; decided by its name, so that every start decides alike."""
    about = Path("/proc/cpuinfo")
    return torch._C._has_mkldnn and about.exists() and "AuthenticAMD" in about.read_text("utf-8")
