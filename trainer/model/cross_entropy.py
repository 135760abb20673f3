"""Cross-entropy of a linear head, a chunk of positions at a time, so that [positions, vocabulary] is never held."""

from collections.abc import Callable

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

CHUNK_BYTES = 64 * 2**20
"""Room for the float32 logits of one chunk."""


def linear_cross_entropy(
    head: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor, targets: torch.Tensor, vocabulary: int
) -> torch.Tensor:
    """The summed negative log-likelihood of targets [T] under head(hidden [T, H]); float32, 0 where T is 0.

    Where one chunk does not hold all positions, logits are computed again in the backward pass.
    """
    rows = max(1, CHUNK_BYTES // (4 * vocabulary))
    if len(targets) <= rows:
        return _summed(head, hidden, targets)
    total = hidden.new_zeros((), dtype=torch.float32)
    for chunk, wanted in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True):
        total = total + checkpoint(_summed, head, chunk, wanted, use_reentrant=False)
    return total


def _summed(head: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(head(hidden).float(), targets, reduction="sum")
