"""Causal attention of each example of a packed row to itself, in one call.

Shapes: N query heads, K key-value heads, S tokens of the row, D the size of a head.
"""

from typing import Any

import torch

from trainer.kernels import library


def serves(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float) -> bool:
    """Whether the kernel reads these heads [1, N or K, S, D], and drops nothing."""
    alike = query.dtype == key.dtype == value.dtype and query.shape[-1] == key.shape[-1] == value.shape[-1]
    return not dropout and alike and query.shape[0] == 1 and library.serve(query)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: tuple[int, ...], scale: float, window: int
) -> torch.Tensor:
    """Of query [1, N, S, D], key and value [1, K, S, D] -> [1, S, N, D]; `window` 0 is none.

    Nothing but the logarithm of each row's sum is kept for the backward pass; all sums are made in float32.
    """
    output: torch.Tensor = _Attention.apply(query, key, value, lengths, scale, window)  # type: ignore[no-untyped-call]
    return output


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        lengths: tuple[int, ...],
        scale: float,
        window: int,
    ) -> torch.Tensor:
        query, key, value = (one if one.stride(-1) == 1 else one.contiguous() for one in (query, key, value))
        _, heads, tokens, size = query.shape
        assert sum(lengths) == tokens, (lengths, tokens)
        starts = torch.tensor([0, *lengths]).cumsum(0)
        output = query.new_empty(1, tokens, heads, size)
        log_sums = torch.empty(heads, tokens, dtype=torch.float32)
        ctx.numbers = (len(lengths), heads, key.shape[1], size, scale, window)
        library.call("attention", *_inputs(query, key, value), output, log_sums, starts, *ctx.numbers)
        ctx.save_for_backward(query, key, value, output, log_sums, starts)
        return output

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        query, key, value, output, log_sums, starts = ctx.saved_tensors
        d_query, d_key, d_value = (one.new_empty(_by_token(one)) for one in (query, key, value))
        library.call(
            "attention_backward",
            outer[0].contiguous(),
            output,
            log_sums,
            *_inputs(query, key, value),
            d_query,
            d_key,
            d_value,
            starts,
            *ctx.numbers,
        )
        return d_query.transpose(1, 2), d_key.transpose(1, 2), d_value.transpose(1, 2), None, None, None


def _inputs(*heads: torch.Tensor) -> list[torch.Tensor | int]:
    """Each tensor with its strides over heads and tokens, and their common type."""
    listed: list[torch.Tensor | int] = []
    for one in heads:
        listed += [one, one.stride(1), one.stride(2)]
    return [*listed, library.TYPES[heads[0].dtype]]


def _by_token(heads: torch.Tensor) -> tuple[int, ...]:
    """[1, S, N, D] of [1, N, S, D]."""
    one, count, tokens, size = heads.shape
    return one, tokens, count, size
