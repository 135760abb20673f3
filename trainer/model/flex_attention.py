"""Attention inside each example by torch's flex_attention: one fused kernel for windows, soft caps and sinks.

Rows are filled up to one of few sizes, so that it is compiled once for each. Forward runs on any device; the backward
pass needs CUDA. Shapes: N heads, K key-value heads, S tokens, P tokens when filled up, D size of a head.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention
from transformers import AttentionInterface

from trainer.model.attention import Asked, Segments, interface, refused

LEAST = 16
"""Values of a head that its programs need."""
FLEX = "shardtune_flex"
"""The name that transformers knows it by."""
BLOCK = 128
"""Tokens on each side of a block of scores, which is computed whole or not at all."""
STEPS = 8
"""Sizes in each doubling of the row: at most an eighth is filled up."""
PROGRAMS = 64
"""Times that torch may compile it: sizes, windows and caps of one model."""

Flex = Callable[..., Any]


def bucket(tokens: int) -> int:
    """The size that a row of so many tokens is filled up to; a multiple of BLOCK."""
    blocks = -(-tokens // BLOCK)
    step = max(1, (1 << (blocks - 1).bit_length()) // (2 * STEPS))
    return -(-blocks // step) * step * BLOCK


def block_mask(segments: Segments, window: int | None, causal: bool, device: torch.device) -> BlockMask:
    """Which blocks of scores [P/BLOCK, P/BLOCK] are computed: none, whole, or token by token.

    Known from the borders alone, without a matrix of tokens. What a row is filled up with is an example of its own.
    """
    size = bucket(sum(segments.lengths))
    lengths = torch.tensor([*segments.lengths, size - sum(segments.lengths)])
    example = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    blocks = example.view(-1, BLOCK)
    first, last = blocks[:, 0], blocks[:, -1]
    index = torch.arange(len(blocks))
    ahead = index[:, None] - index[None, :]
    touched = (first[:, None] <= last[None, :]) & (first[None, :] <= last[:, None])
    whole = (first[:, None] == last[:, None]) & (first[None, :] == last[None, :]) & (first[:, None] == first[None, :])
    if causal:
        touched, whole = touched & (ahead >= 0), whole & (ahead > 0)
    if window:
        # The nearest and the farthest pair of two blocks are this many tokens apart.
        touched &= ahead * BLOCK - (BLOCK - 1) < window
        whole &= ahead * BLOCK + (BLOCK - 1) < window
    partly = touched & ~whole
    held = example.to(device, non_blocking=True)
    some, which, full, fully = (part.to(device) for part in (*_listed(partly), *_listed(whole)))
    return BlockMask.from_kv_blocks(
        some,
        which,
        full,
        fully,
        BLOCK_SIZE=BLOCK,
        mask_mod=_sees(held, window, causal),
        seq_lengths=(size, size),
    )


def _listed(wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How many blocks of each row are wanted [1, 1, R], and which ones come first [1, 1, R, R]."""
    order = torch.argsort(wanted.int(), dim=-1, descending=True, stable=True)
    return wanted.sum(dim=-1).int()[None, None], order.int()[None, None].contiguous()


def _sees(example: torch.Tensor, window: int | None, causal: bool) -> Callable[..., torch.Tensor]:
    """Whether a token sees another, as flex_attention asks it."""

    def same(batch: Any, head: Any, token: Any, other: Any) -> Any:
        return example[token] == example[other]

    def before(batch: Any, head: Any, token: Any, other: Any) -> Any:
        return (example[token] == example[other]) & (token >= other)

    def near(batch: Any, head: Any, token: Any, other: Any) -> Any:
        return (example[token] == example[other]) & (token >= other) & (token - other < window)

    return near if window else before if causal else same


def _bends(cap: float) -> Callable[..., torch.Tensor]:
    def bend(score: torch.Tensor, batch: Any, head: Any, token: Any, other: Any) -> torch.Tensor:
        return cap * torch.tanh(score / cap)

    return bend


@lru_cache
def _compiled() -> Flex:
    """It, fused; a size more than PROGRAMS is an error and never the slow form, which holds all scores."""
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, PROGRAMS)
    compiled: Flex = torch.compile(flex_attention, dynamic=False, fullgraph=True)
    return compiled


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Segments,
    asked: Asked,
    *,
    flex: Flex | None = None,
) -> torch.Tensor:
    """Of query [1, N, S, D], key and value [1, K, S, D] -> [1, N, S, D]; `flex` in place of the compiled one."""
    if asked.dropout:
        raise refused("drops attention out, which flex_attention cannot: set model.attention to segments")
    tokens, device = query.shape[2], query.device
    mask = segments.once(
        ("flex", device, asked.window, asked.causal),
        lambda: block_mask(segments, asked.window, asked.causal, device),
    )
    fill = (0, 0, 0, bucket(tokens) - tokens)
    query, key, value = (functional.pad(tensor, fill) for tensor in (query, key, value))
    output = (flex or _compiled())(
        query,
        key,
        value,
        score_mod=None if asked.cap is None else _bends(asked.cap),
        block_mask=mask,
        scale=asked.scale,
        enable_gqa=query.shape[1] != key.shape[1],
        return_aux=None if asked.sinks is None else AuxRequest(lse=True),
    )
    if asked.sinks is not None:
        output, aux = output
        # A sink adds exp(sink) to what the exponentials are divided by.
        share = torch.sigmoid(aux.lse - asked.sinks.float().view(1, -1, 1))
        output = output * share[..., None].to(output.dtype)
    result: torch.Tensor = output[:, :, :tokens]
    return result


AttentionInterface.register(FLEX, interface(attend))
