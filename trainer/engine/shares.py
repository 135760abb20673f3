"""What a process keeps of the parameters that DeepSpeed shares out."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn


def watched(
    module: nn.Module, weights: Sequence[torch.Tensor], optimizer: Any, zero: int
) -> Iterator[tuple[str, bool, list[torch.Tensor]]]:
    """As `Engine.watched` says; `weights` train, `optimizer` is DeepSpeed's, which steps copies of them."""
    copies = [copy for group in getattr(optimizer, "fp32_groups", ()) for copy in group]
    kept = dict(zip(weights, copies or weights, strict=True))
    for name, weight in module.named_parameters():
        if zero == 0:
            held = [kept.get(weight, weight)]
        elif weight not in kept:
            held = [getattr(weight, "ds_tensor", weight)]
        else:
            held = _of_stage_3(weight) if zero == 3 else _of_stages_1_and_2(weight)
        yield name, weight in kept, held


def _of_stages_1_and_2(weight: Any) -> list[torch.Tensor]:
    """Nothing where others hold all of it."""
    mapping = getattr(weight, "_hp_mapping", None)
    if mapping is None:
        return []
    copy: torch.Tensor = mapping.get_hp_fragment()
    moments = list((mapping.optim_fragment or {}).values())
    return [copy, *(moments[:1] if copy.dtype != torch.float32 else [])]


def _of_stage_3(weight: Any) -> list[torch.Tensor]:
    copy: torch.Tensor | None = weight._z3_optimizer.get_local_fp32_param(weight)
    return [] if copy is None else [copy]
