"""What weights that go on keep while DeepSpeed shares out what trains anew."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from trainer import ranks
from trainer.optim.stepper import moments

Part = str | None
"""A moment, or by DeepSpeed's name for it the value."""
_LINKS = ("_hp_mapping", "_z3_optimizer")
"""What DeepSpeed hangs on a weight that it shares out."""


@dataclass(frozen=True)
class Kept:
    """Of one weight, what this process keeps."""

    step: torch.Tensor
    names: tuple[Part, ...]
    """The value and its moments."""
    parts: dict[Part, torch.Tensor]
    """Stage 0: all that its optimizer has. Stages 1 and 2: whole tensors, on the process that keeps them. Stage 3: the
    share of this process.
    """


def keep(weights: Sequence[nn.Parameter], optimizer: Any, zero: int) -> dict[Any, Kept]:
    """Value, moments and count of steps of those that still train of the weights that DeepSpeed's optimizer steps.

    All processes call it. A weight that has made no step yet has nothing to keep.
    """
    kept = dict[Any, Kept]()
    for flat, held in _flats(weights, optimizer, zero):
        state = inner(optimizer).state.get(flat, {})
        if "step" not in state:
            continue
        names: tuple[Part, ...] = (None, *moments(state))
        _link(flat, held, state, zero)
        for weight in filter(lambda one: one.requires_grad, held):
            mine = zero not in (1, 2) or len(kept) % ranks.world_size() == ranks.rank()
            parts: dict[Part, torch.Tensor] = {}
            if zero == 0:
                parts = {None: flat.detach().clone(), **state}
            for part in names if zero else ():
                tensor = _share(weight, part) if zero == 3 else weight.get_full_hp_param(part)
                if mine:
                    parts[part] = tensor.detach().to("cpu", copy=True)
            kept[weight] = Kept(torch.as_tensor(state["step"]).clone(), names, parts)
    return kept


def put(kept: dict[Any, Kept], weights: Sequence[nn.Parameter], optimizer: Any, zero: int) -> None:
    """What was kept, into a new optimizer that steps these weights and others; all processes call it."""
    states = inner(optimizer).state
    for flat, held in _flats(weights, optimizer, zero):
        going_on = [weight for weight in held if weight in kept]
        if not going_on:
            continue
        one = kept[going_on[0]]
        if zero == 0:
            flat.data.copy_(one.parts[None])
            states[flat] = {name: part for name, part in one.parts.items() if name is not None}
            continue
        # Weights of a group began in the same phase, so that they have made the same steps.
        states[flat] = {"step": one.step.clone(), **{name: torch.zeros_like(flat) for name in one.names if name}}
        _link(flat, held, states[flat], zero)
    for number, (weight, one) in enumerate(kept.items() if zero else ()):
        for part in one.names:
            if zero == 3:
                _share(weight, part).data.copy_(one.parts[part])
                continue
            whole = one.parts[part].to(weight.device) if one.parts else torch.empty(weight.shape, device=weight.device)
            if ranks.world_size() > 1:
                dist.broadcast(whole, number % ranks.world_size())
            weight.set_full_hp_param(whole, part)


def let_go(module: nn.Module) -> None:
    """Takes what DeepSpeed hung on the weights off again, and with it the memory that they share with others."""
    for weight in module.parameters():
        for name in _LINKS:
            if hasattr(weight, name):
                delattr(weight, name)
        # Stages 1 and 2 lay the weights of a group into one tensor, and stage 3 their shares.
        held = getattr(weight, "ds_tensor", weight)
        held.data = held.data.clone()
        weight.grad = None


def _flats(weights: Sequence[nn.Parameter], optimizer: Any, zero: int) -> Iterator[tuple[torch.Tensor, Sequence[Any]]]:
    """What is stepped on this process, and the weights of which it holds a share."""
    if zero == 0:
        stepped = [one for group in inner(optimizer).param_groups for one in group["params"]]
        yield from ((one, [weight]) for weight, one in zip(weights, stepped, strict=True))
    elif zero == 3:
        yield from zip(optimizer.fp32_partitioned_groups_flat, optimizer.fp16_groups, strict=True)
    else:
        yield from zip(optimizer.single_partition_of_fp32_groups, optimizer.bit16_groups, strict=True)


def inner(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer of torch inside DeepSpeed's wrapper, where there is one."""
    found: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return found


def _link(flat: torch.Tensor, held: Sequence[Any], state: Any, zero: int) -> None:
    """Lets weights find their part of the moments under ZeRO 1 and 2, which DeepSpeed may have linked too early."""
    for weight in held if zero in (1, 2) else ():
        if weight._hp_mapping is not None:
            weight._hp_mapping.set_optim_state_fragment(flat, state)


def _share(weight: Any, part: str | None) -> torch.Tensor:
    """What this process holds of it under ZeRO-3, where it is stepped."""
    share, _ = weight._z3_optimizer._get_fp32_opt_state_partition(weight, True, part)
    found: torch.Tensor = share
    return found
