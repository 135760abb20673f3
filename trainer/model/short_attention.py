"""Causal attention of a short example to itself, by two matrix products.

For examples in reduced precision on the processor, where torch's own attention takes four times as long in its backward
pass. Shapes: N heads, K key-value heads, L tokens, D size of a head; queries are laid out as [K, (N/K) * L, D], so that
the heads of a group share keys and values uncopied.
"""

from functools import lru_cache
from typing import Any

import torch

LONGEST = 512
"""Tokens up to which this is faster than torch's own; the probabilities [N, L, L] are kept for the backward pass."""


def serves(query: torch.Tensor, dropout: float) -> bool:
    """Whether this is the faster way."""
    return query.device.type == "cpu" and query.dtype == torch.bfloat16 and not dropout and query.shape[2] <= LONGEST


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """Of query [1, N, L, D], key and value [1, K, L, D] -> [1, N, L, D]."""
    output: torch.Tensor = _ShortAttention.apply(query, key, value, scale)  # type: ignore[no-untyped-call]
    return output


class _ShortAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
        """Keeps the probabilities [K, (N/K) * L, L]."""
        scaled, keys, values = _grouped(query, key).mul(scale), key[0], value[0]
        scores = torch.bmm(scaled, keys.transpose(1, 2))
        length = scores.shape[-1]
        scores.view(-1, length, length).add_(_mask(scores.dtype)[:length, :length])
        chances = torch.softmax(scores, dim=-1)
        ctx.save_for_backward(scaled, keys, values, chances)
        ctx.scale = scale
        return torch.bmm(chances, values).view(query.shape)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        """The gradient of a softmax between two products (Dao 2022, appendix B)."""
        scaled, keys, values, chances = ctx.saved_tensors
        d_output = _grouped(outer[0], keys[None])
        d_chances = torch.bmm(d_output, values.transpose(1, 2))
        d_scores = torch._softmax_backward_data(d_chances, chances, -1, chances.dtype)
        d_query = torch.bmm(d_scores, keys).mul_(ctx.scale).view(outer[0].shape)
        d_key = torch.bmm(d_scores.transpose(1, 2), scaled)
        d_value = torch.bmm(chances.transpose(1, 2), d_output)
        return d_query, d_key[None], d_value[None], None


def _grouped(heads: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """[1, N, L, D] as [K, (N/K) * L, D]."""
    return heads.reshape(key.shape[1], -1, heads.shape[-1])


@lru_cache
def _mask(dtype: torch.dtype) -> torch.Tensor:
    """Minus infinity above the diagonal [LONGEST, LONGEST]."""
    return torch.full((LONGEST, LONGEST), float("-inf"), dtype=dtype).triu_(1)
