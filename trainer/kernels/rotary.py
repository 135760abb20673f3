"""Rotary positions, the two halves of a head turned against each other (Su et al. 2021).

Shapes: B rows (1 where packed), N heads, S tokens, D size of a head.
"""

from typing import Any

import torch

from trainer.kernels import library


def serves(heads: torch.Tensor, cosine: torch.Tensor) -> bool:
    """Whether heads [1, N, S, D] and a table [1, S, D] are of a layout that the kernel reads."""
    return (
        library.serve(heads)
        and cosine.dtype in library.TYPES
        and heads.dim() == 4
        and heads.shape[0] == 1
        and heads.stride(-1) == 1
        and cosine.shape == (1, heads.shape[2], heads.shape[3])
    )


def rotate(heads: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """The sum of heads * cosine and (-second half, first half) * sine; [1, N, S, D] -> [1, N, S, D]."""
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
