"""Root-mean-square normalisation (Zhang and Sennrich 2019, equation 4)."""

from typing import Any

import torch

from trainer.kernels import library


def rms_norm(hidden: torch.Tensor, weight: torch.Tensor, eps: float, offset: float) -> torch.Tensor:
    """The product of hidden / sqrt(mean(hidden^2) + eps) and weight + offset; hidden [..., H], weight [H].

    Under autocast the result is of its type, because products take it next; else of the hidden states'.
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
