"""Attention inside each example of a packed row, through transformers' attention interface.

Shapes: B rows (1 where packed), N heads, K key-value heads, S tokens, D size of a head.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

from trainer.errors import Problem, RecipeError

SEGMENTS = "shardtune_segments"
"""The name that transformers knows it by. It has no mask function there, so transformers builds no mask."""


def segments_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    segments: tuple[int, ...] | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of each example to itself; query [1, N, S, D], key and value [1, K, S, D] -> [1, S, N, D].

    `segments` are the lengths of the examples that stand end to end and fill the row.
    """
    if segments is None:
        raise RecipeError(
            [Problem("data.packing", "this model does not hand examples on to its attention; set it to false")]
        )
    repeat = query.shape[1] // key.shape[1]
    if repeat > 1:
        key, value = key.repeat_interleave(repeat, dim=1), value.repeat_interleave(repeat, dim=1)
    outputs = []
    lengths = list(segments)
    parts = (torch.split(tensor, lengths, dim=2) for tensor in (query, key, value))
    for part, keys, values in zip(*parts, strict=True):
        mask = _band(part.shape[2], sliding_window, part.device) if sliding_window else None
        outputs.append(
            functional.scaled_dot_product_attention(
                part, keys, values, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling
            )
        )
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _band(length: int, window: int, device: torch.device) -> torch.Tensor | None:
    """The causal mask [S, S] of a sliding window; None where the example is no longer than the window."""
    if length <= window:
        return None
    place = torch.arange(length, device=device)
    distance = place[:, None] - place[None, :]
    return (distance >= 0) & (distance < window)


AttentionInterface.register(SEGMENTS, segments_attention)


@contextmanager
def own_attention(model: PreTrainedModel) -> Iterator[None]:
    """Transformers' own attention, for generation and for comparisons; the previous one afterwards."""
    previous = model.config._attn_implementation
    model.set_attn_implementation("sdpa" if previous == SEGMENTS else previous)
    try:
        yield
    finally:
        model.set_attn_implementation(previous)
