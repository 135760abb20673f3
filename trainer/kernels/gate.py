"""A gated activation: activation(gate) * up (Shazeer 2020)."""

from typing import Any

import torch

from trainer.kernels import library

KINDS = {"silu": 0, "gelu_tanh": 1}
"""The activations, by their number in C."""


def gated(gate: torch.Tensor, up: torch.Tensor, kind: int) -> torch.Tensor:
    """The product activation(gate) * up of two tensors of one shape and type."""
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
