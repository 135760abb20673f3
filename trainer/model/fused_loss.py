"""The loss of a linear head by a kernel of another package, on CUDA.

liger-kernel holds the logits of a chunk as we do, but makes loss and gradient in one pass over them (Hsu 2024);
cut-cross-entropy never holds any (Wijmans 2024). Shapes: T positions, H hidden size, V vocabulary.
"""

import importlib.util
from functools import lru_cache
from importlib import metadata

import torch
from packaging.version import Version
from torch import nn

IGNORED = -100


OLDEST_LIGER = Version("0.8")
"""The first that adds chunks up in float32 and takes what it is asked in this order."""


@lru_cache
def installed(package: str) -> bool:
    """Whether a package can be imported."""
    if importlib.util.find_spec(package) is None:
        return False
    return package != "liger_kernel" or Version(metadata.version("liger-kernel")) >= OLDEST_LIGER


def summed(
    module: nn.Linear, hidden: torch.Tensor, targets: torch.Tensor, *, smoothing: float, z: float, cap: float | None
) -> torch.Tensor | None:
    """The summed loss of targets [T] after hidden states [T, H] on CUDA; None where no installed kernel computes it."""
    # liger-kernel makes no gradient of the weight where the states need none.
    alone = module.weight.requires_grad and not hidden.requires_grad and torch.is_grad_enabled()
    if alone or not len(targets):
        return None
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else module.weight.dtype
    states, weight = hidden.to(dtype), module.weight.to(dtype)
    bias = None if module.bias is None else module.bias.to(dtype)
    with torch.autocast(device, enabled=False):
        if installed("liger_kernel"):
            return _liger(states, weight, bias, targets, smoothing, z, cap)
        if installed("cut_cross_entropy") and bias is None and not smoothing and not z and dtype.itemsize == 2:
            return _cut(states, weight, targets, cap)
    return None


def _liger(
    states: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    smoothing: float,
    z: float,
    cap: float | None,
) -> torch.Tensor:
    from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction

    # Chunks add up in float32, as ours do.
    loss, *_ = LigerFusedLinearCrossEntropyFunction.apply(
        states, weight, targets, bias, None, IGNORED, z, smoothing, "sum", cap, False, torch.float32
    )
    total: torch.Tensor = loss
    return total


def _cut(states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, cap: float | None) -> torch.Tensor:
    from cut_cross_entropy import linear_cross_entropy

    # Without a filter no gradient is left out because it is small.
    total: torch.Tensor = linear_cross_entropy(
        states, weight, targets, ignore_index=IGNORED, softcap=cap, reduction="sum", filter_eps=None
    )
    return total.float()
