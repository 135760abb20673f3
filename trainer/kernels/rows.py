"""What stands between the matrix products of a layer, as autograd functions over rows.c.

Shapes: H hidden size, N heads, S tokens, D size of a head.
"""

from typing import Any

import torch

from trainer.kernels import library

ACTIVATIONS = {"silu": 0, "gelu_tanh": 1}
"""The activations of a gate, by their number in C."""


def rms_norm(hidden: torch.Tensor, weight: torch.Tensor, eps: float, offset: float) -> torch.Tensor:
    """The product of hidden / sqrt(mean(hidden^2) + eps) and weight + offset (Zhang and Sennrich 2019, equation 4).

    Shapes: hidden [..., H], weight [H]. Under autocast the result is of its type, because products take it next; else
    of the hidden states'.
    """
    made = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden.dtype
    output: torch.Tensor = _RmsNorm.apply(hidden, weight, eps, offset, made)  # type: ignore[no-untyped-call]
    return output


class _RmsNorm(torch.autograd.Function):
    """Keeps the hidden states and one factor a row."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, eps: float, offset: float, made: torch.dtype
    ) -> torch.Tensor:
        hidden = hidden.contiguous()
        output = torch.empty_like(hidden, dtype=made)
        factors = torch.empty(hidden.numel() // hidden.shape[-1], dtype=torch.float32)
        library.call(
            "rms_norm",
            hidden,
            library.TYPES[hidden.dtype],
            output,
            library.TYPES[made],
            weight.float(),
            offset,
            eps,
            factors,
            len(factors),
            hidden.shape[-1],
        )
        ctx.save_for_backward(hidden, weight, factors)
        ctx.offset = offset
        return output

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        hidden, weight, factors = ctx.saved_tensors
        d_output = outer[0].contiguous()
        d_hidden = torch.empty_like(hidden)
        d_weight = torch.empty(weight.shape, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        library.call(
            "rms_norm_backward",
            d_output,
            library.TYPES[d_output.dtype],
            hidden,
            library.TYPES[hidden.dtype],
            d_hidden,
            weight.float(),
            ctx.offset,
            factors,
            d_weight,
            len(factors),
            hidden.shape[-1],
        )
        return d_hidden, None if d_weight is None else d_weight.to(weight.dtype), None, None, None


def gated(gate: torch.Tensor, up: torch.Tensor, kind: int) -> torch.Tensor:
    """The product activation(gate) * up of two tensors of one shape and type (Shazeer 2020)."""
    output: torch.Tensor = _Gated.apply(gate, up, kind)  # type: ignore[no-untyped-call]
    return output


class _Gated(torch.autograd.Function):
    """Keeps the two inputs; the activation is made again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor, kind: int) -> torch.Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        output = torch.empty_like(gate)
        library.call("gated", gate, up, output, library.TYPES[gate.dtype], kind, gate.numel())
        ctx.save_for_backward(gate, up)
        ctx.kind = kind
        return output

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        gate, up = ctx.saved_tensors
        d_output = outer[0].contiguous()
        d_gate, d_up = torch.empty_like(gate), torch.empty_like(up)
        library.call(
            "gated_backward", d_output, gate, up, d_gate, d_up, library.TYPES[gate.dtype], ctx.kind, gate.numel()
        )
        return d_gate, d_up, None


def turns(heads: torch.Tensor, cosine: torch.Tensor) -> bool:
    """Whether `rotate` reads heads [1, N, S, D] and tables [1, S, D] of this layout."""
    return (
        library.serve(heads)
        and cosine.dtype in library.TYPES
        and heads.dim() == 4
        and heads.shape[0] == 1
        and heads.stride(-1) == 1
        and cosine.shape == (1, heads.shape[2], heads.shape[3])
    )


def rotate(heads: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """The sum of heads * cosine and (-second half, first half) * sine (Su et al. 2021); [1, N, S, D] -> the same."""
    output: torch.Tensor = _Rotate.apply(heads, cosine, sine)  # type: ignore[no-untyped-call]
    return output


class _Rotate(torch.autograd.Function):
    """Keeps the tables alone: the gradient is turned back."""

    @staticmethod
    def forward(ctx: Any, heads: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cosine.contiguous(), sine.contiguous())
        return _turned(heads, *ctx.to_save, back=False)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        return _turned(outer[0], *ctx.saved_tensors, back=True), None, None


def _turned(heads: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor, *, back: bool) -> torch.Tensor:
    """Laid out as [S, N, D], which attention reads without a copy."""
    heads = heads if heads.stride(-1) == 1 else heads.contiguous()
    _, count, tokens, size = heads.shape
    output = heads.new_empty(1, tokens, count, size)
    library.call(
        "rotary",
        heads,
        library.TYPES[heads.dtype],
        heads.stride(1),
        heads.stride(2),
        cosine,
        sine,
        library.TYPES[cosine.dtype],
        output,
        count,
        tokens,
        size,
        int(back),
    )
    return output.transpose(1, 2)
