"""Moments in memory that a CUDA device pages in from the host when it steps them, by bitsandbytes (Dettmers et al.
2023, arXiv 2305.14314, section 3). On a CPU nothing is paged: the host's memory is where they lie anyway.
"""

import torch

from trainer.kernels.vendor import bitsandbytes

_LEAST = 100_000
"""Values of the smallest moment that is worth it, as bitsandbytes has it."""


def zeros(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """As many zeros as a weight has values. What is paged counts as a tensor of the host."""
    if weight.device.type != "cuda" or weight.numel() < _LEAST:
        return torch.zeros_like(weight, dtype=dtype, memory_format=torch.contiguous_format)
    made: torch.Tensor = bitsandbytes().get_paged(*weight.shape, dtype=dtype, device=weight.device)
    return made.zero_()


def part(whole: torch.Tensor, first: int, last: int) -> torch.Tensor:
    """Values of it, looked at as flat, which bitsandbytes knows as paged where the whole is."""
    piece = whole.reshape(-1)[first:last]
    if getattr(whole, "is_paged", False):
        piece.is_paged, piece.page_deviceid = True, whole.page_deviceid  # type: ignore[attr-defined]
    return piece


def put(kept: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A moment that was saved, beside its weight again."""
    return zeros(weight, kept.dtype).copy_(kept.view(weight.shape))
