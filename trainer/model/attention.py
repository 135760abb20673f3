"""Attention inside each example of a packed row, through transformers' attention interface.

Shapes: B rows (1 where packed), N heads, K key-value heads, S tokens, D size of a head.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

from trainer.errors import Problem, RecipeError
from trainer.kernels import attention_kernel as kernel
from trainer.model import short_attention

SEGMENTS = "shardtune_segments"
"""The name that transformers knows it by. It has no mask function there, so transformers builds no mask."""


@dataclass(frozen=True, eq=False)
class Segments:
    """The examples that stand end to end and fill a row.

    An object of its own and no tuple, so that torch.compile, which looks into tuples, does not begin anew for each row.
    """

    lengths: tuple[int, ...]
    """Tokens of each."""


def segments_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    segments: Segments | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of each example to itself; query [1, N, S, D], key and value [1, K, S, D] -> [1, S, N, D]."""
    if segments is None:
        raise RecipeError(
            [Problem("data.packing", "this model does not hand examples on to its attention; set it to false")]
        )
    device = query.device.type
    if torch.is_autocast_enabled(device):
        query, key, value = (tensor.to(torch.get_autocast_dtype(device)) for tensor in (query, key, value))
    scale = scaling or query.shape[-1] ** -0.5
    if kernel.serves(query, key, value, dropout) and not _by_matrix_unit(query, segments.lengths):
        return kernel.attend(query, key, value, segments.lengths, scale, sliding_window or 0), None
    queries, keys, values = (torch.split(tensor, list(segments.lengths), dim=2) for tensor in (query, key, value))
    outputs = [
        _of_example(one, its, held, scale, dropout, sliding_window)
        for one, its, held in zip(queries, keys, values, strict=True)
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _by_matrix_unit(query: torch.Tensor, lengths: tuple[int, ...]) -> bool:
    """Whether two plain products are faster: short bfloat16 examples on a processor with AMX."""
    short = query.dtype == torch.bfloat16 and max(lengths) <= short_attention.LONGEST
    return short and torch.cpu._is_amx_tile_supported()


def _of_example(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, dropout: float, window: int | None
) -> torch.Tensor:
    """One example's own attention: query [1, N, L, D], key and value [1, K, L, D] -> [1, N, L, D]."""
    mask = _band(query.shape[2], window, query.device) if window else None
    if mask is None and short_attention.serves(query, dropout):
        return short_attention.attend(query, key, value, scale)
    repeat = query.shape[1] // key.shape[1]
    if repeat > 1:
        key, value = key.repeat_interleave(repeat, dim=1), value.repeat_interleave(repeat, dim=1)
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scale
    )


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
