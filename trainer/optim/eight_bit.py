"""Moments in 8 bits, block by block, by bitsandbytes (Dettmers et al. 2021, arXiv 2110.02861)."""

import functools
from collections.abc import Callable
from typing import Any

import torch

from trainer.kernels.vendor import bitsandbytes
from trainer.optim.paged import part
from trainer.plan.moments import BLOCK

SCALE = "_absmax"
"""What the largest value of each block is kept under, after the moment's name."""


@functools.cache
def _map(signed: bool, device: torch.device) -> torch.Tensor:
    """The 256 values that a byte stands for: the dynamic tree of the paper, section 1.3."""
    values: torch.Tensor = bitsandbytes().create_dynamic_map(signed=signed).to(device)
    return values


def begin(
    weight: torch.Tensor, state: dict[str, Any], zeros: Callable[[torch.Tensor, torch.dtype], torch.Tensor]
) -> None:
    """Adds moments of zero to a weight's state; `zeros` makes them, as many as the weight has values."""
    blocks = -(-weight.numel() // BLOCK)
    for moment in ("exp_avg", "exp_avg_sq"):
        state[moment] = zeros(weight, torch.uint8)
        state[moment + SCALE] = torch.zeros(blocks, dtype=torch.float32, device=weight.device)


def update(
    values: torch.Tensor, gradient: torch.Tensor, state: dict[str, Any], first: int, last: int, group: dict[str, Any]
) -> None:
    """One step of AdamW on the flat values `first` to `last` of a weight, in place; `first` begins a block."""
    blocks = slice(first // BLOCK, -(-last // BLOCK))
    device = values.device
    bitsandbytes().optimizer_update_8bit_blockwise(
        "adam",
        gradient,
        values,
        part(state["exp_avg"], first, last),
        part(state["exp_avg_sq"], first, last),
        *group["betas"],
        0.0,
        0.0,
        group["eps"],
        int(state["step"]),
        group["lr"],
        _map(True, device),
        _map(False, device),
        state["exp_avg" + SCALE][blocks],
        state["exp_avg_sq" + SCALE][blocks],
        group["weight_decay"],
    )


def moment(state: dict[str, Any], name: str) -> torch.Tensor:
    """A moment in float32, whether it is kept in 8 bits or not."""
    kept: torch.Tensor = state[name]
    if name + SCALE not in state:
        return kept.float()
    codes = kept.contiguous().view(-1)
    scales, values = state[name + SCALE], _map(name == "exp_avg", kept.device)
    whole: torch.Tensor = bitsandbytes().dequantize_blockwise(codes, absmax=scales, code=values, blocksize=BLOCK)
    return whole.view(kept.shape)


def put_moment(state: dict[str, Any], name: str, value: torch.Tensor) -> None:
    """Keeps a float32 moment as the state keeps it."""
    if name + SCALE not in state:
        state[name].copy_(value.view(state[name].shape))
        return
    codes = _map(name == "exp_avg", state[name].device)
    flat = value.float().contiguous().view(-1).to(state[name].device)
    kept, quantized = bitsandbytes().quantize_blockwise(flat, code=codes, blocksize=BLOCK)
    state[name].copy_(kept.view(state[name].shape))
    state[name + SCALE].copy_(quantized.absmax)
