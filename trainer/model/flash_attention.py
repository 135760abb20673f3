"""Attention inside each example by a flash kernel of variable lengths (Dao 2023), on CUDA in half precision.

The flash-attn package where it is installed, which bends scores too; else torch's own kernel. Shapes: N heads,
K key-value heads, S tokens, D size of a head.
"""

import importlib.util
import inspect
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from transformers import AttentionInterface

from trainer.model.attention import Asked, Needs, Segments, interface, refused

# No "flash" in it: transformers would look for a kernel of its own by that word.
VARLEN = "shardtune_varlen"
"""The name that transformers knows it by."""
PACKAGE = "flash_attn"
LARGEST_HEAD = 256


@lru_cache
def package() -> bool:
    """Whether flash-attn is installed."""
    return importlib.util.find_spec(PACKAGE) is not None


@lru_cache
def torchs() -> ModuleType | None:
    """The kernel of torch itself, where it shares keys among heads and can be told not to split examples."""
    try:
        module = importlib.import_module("torch.nn.attention.varlen")
    except ModuleNotFoundError:
        return None
    takes = inspect.signature(module.varlen_attn).parameters
    return module if {"enable_gqa", "num_splits", "window_size"} <= {*takes} else None


def lacking(needs: Needs, dtype: torch.dtype) -> str | None:
    """Why a model cannot have it on this machine; None where it can."""
    if not package() and torchs() is None:
        return "needs the package flash-attn or torch 2.13"
    if dtype not in (torch.bfloat16, torch.float16):
        return f"computes in bfloat16 or float16, not in {str(dtype).removeprefix('torch.')}"
    if needs.sinks:
        return "has no sinks, which this model's heads have"
    if needs.cap and not package():
        return "bends no scores, which this model asks for, unless the package flash-attn is installed"
    if needs.dropout and not package():
        return "has no attention dropout, which this model asks for, unless the package flash-attn is installed"
    if needs.unlike:
        return "has keys and values of one size, and this model's differ"
    if needs.head > LARGEST_HEAD:
        return f"has heads of at most {LARGEST_HEAD}, and this model's have {needs.head}"
    return None


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, asked: Asked
) -> torch.Tensor:
    """Of query [1, N, S, D], key and value [1, K, S, D] -> [1, N, S, D]."""
    if asked.sinks is not None:
        raise refused("has sinks, which the flash kernel has not: set model.attention to flex")
    borders, longest = segments.borders(query.device), max(segments.lengths)
    # The kernels take [S, N, D]; a window counts the tokens before the token itself.
    tokens = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
    window = (asked.window - 1 if asked.window else -1, 0 if asked.causal else -1)
    if package():
        output = _by_package(tokens, borders, longest, window, asked)
    else:
        output = _by_torch(tokens, borders, longest, window, asked)
    return output.transpose(0, 1)[None]


def _by_package(
    tokens: list[torch.Tensor], borders: torch.Tensor, longest: int, window: tuple[int, int], asked: Asked
) -> torch.Tensor:
    from flash_attn import flash_attn_varlen_func

    output: torch.Tensor = flash_attn_varlen_func(
        *tokens,
        borders,
        borders,
        longest,
        longest,
        dropout_p=asked.dropout,
        softmax_scale=asked.scale,
        causal=asked.causal,
        window_size=window if asked.window else (-1, -1),
        softcap=asked.cap or 0.0,
    )
    return output


def _by_torch(
    tokens: list[torch.Tensor], borders: torch.Tensor, longest: int, window: tuple[int, int], asked: Asked
) -> torch.Tensor:
    module: Any = torchs()
    if asked.cap is not None or asked.dropout:
        raise refused(
            "bends scores or drops attention out, which torch's flash kernel cannot: set model.attention to flex"
        )
    # One split: what an example gets does not depend on how long the longest beside it is.
    output: torch.Tensor = module.varlen_attn(
        *tokens,
        borders,
        borders,
        longest,
        longest,
        scale=asked.scale,
        window_size=window,
        enable_gqa=tokens[0].shape[1] != tokens[1].shape[1],
        num_splits=1,
    )
    return output


AttentionInterface.register(VARLEN, interface(attend))
