"""Steps through phases in every engine, beside a plain loop of torch."""

import gc
from typing import Any

import torch
from distributed import steps
from torch import nn

from trainer import ranks
from trainer.config.optimizer import Optimizer
from trainer.data.batches import IGNORED, Layout, Windows
from trainer.engine import carry
from trainer.loop.train import accumulate
from trainer.optim.stepper import moments
from trainer.tasks.causal_lm import NextToken

PHASES = (("layers.1.", "norm"), ("layers.", "norm", "embed"), ("layers.0.", "embed"))
"""Parts of the names of what trains."""
LENGTH, LR = 3, 1e-2
Weights = dict[str, torch.Tensor]


def _enter(body: nn.Module, phase: int) -> dict[nn.Parameter, int]:
    """Since when each weight trains that does."""
    since = {}
    for name, weight in body.named_parameters():
        trains = [any(part in name for part in parts) for parts in PHASES[: phase + 1]]
        weight.requires_grad_(trains[-1])
        if trains[-1]:
            since[weight] = max((number + 1 for number, it in enumerate(trains) if not it), default=0)
    return since


def run(kind: str, zero: int, options: dict[str, Any], dtype: str = "float32") -> list[dict[str, Any]]:
    """Of each phase the weights at its end, whether the rebuild before it kept all bits, and the moments it holds."""
    objective, body = NextToken(), steps.model(packing=False, dtype=getattr(torch, dtype))
    computing = steps.engine(kind, zero, 4, dtype=dtype)
    module = objective.module(body, None, whole=computing.shards.whole)
    settings = Optimizer(lr=LR, weight_decay=0.1, **options)
    names = {weight: name for name, weight in body.named_parameters()}
    computing.prepare(module, settings, _enter(body, 0))
    layout = Layout(global_=8, micro=4, packing=False, micro_tokens=100, pad=0)
    rows, collate = steps.random_rows(8 * LENGTH * len(PHASES)), objective.collate("train")
    windows = Windows(rows, layout, rank=ranks.rank(), ranks=ranks.world_size(), seed=None, collate=collate)
    found: list[dict[str, Any]] = []
    for phase in range(len(PHASES)):
        kept = True
        if phase:
            before = _state(computing, names)
            since = _enter(body, phase)
            computing.rebuild(settings, since)
            after = _state(computing, names)
            going_on = {names[weight] for weight, began in since.items() if began < phase}
            assert going_on, "something goes on"
            kept = after.keys() <= going_on and all(
                torch.equal(after[name][part], before[name][part]) for name in after for part in after[name]
            )
            kept = kept and before.keys() & going_on == after.keys()
        for step in range(phase * LENGTH, (phase + 1) * LENGTH):
            window = windows.window(step)
            counts = ranks.all_reduce(objective.counts(window.batches))
            computing.begin(LR)
            accumulate(computing, objective, window, counts, seed=0)
            computing.step(LR)
        gc.collect()
        state = dict(computing.gather([f"model.{name}" for name in names.values()]))
        weights = {name.removeprefix("model."): tensor.clone() for name, tensor in state.items()}
        found.append({"weights": weights, "kept": kept, "moments": _moments(computing), "trained": _trained(body)})
    computing.release()
    return found


def reference() -> list[Weights]:
    """The weights at the end of each phase: AdamW of torch, whose state of a weight is dropped when it rests."""
    body = steps.model(packing=False, dtype=torch.float32)
    groups = [{"params": [], "weight_decay": 0.1}, {"params": [], "weight_decay": 0.0}]
    for weight in body.parameters():
        groups[0 if weight.dim() > 1 else 1]["params"].append(weight)
    optimizer = torch.optim.AdamW(groups, lr=LR)
    layout = Layout(global_=8, micro=8, packing=False, micro_tokens=100, pad=0)
    windows = Windows(
        steps.random_rows(8 * LENGTH * len(PHASES)),
        layout,
        rank=0,
        ranks=1,
        seed=None,
        collate=NextToken().collate("train"),
    )
    found = []
    for phase in range(len(PHASES)):
        since = _enter(body, phase)
        for weight in body.parameters():
            if weight not in since:
                optimizer.state.pop(weight, None)
        for step in range(phase * LENGTH, (phase + 1) * LENGTH):
            (batch,) = windows.window(step).batches
            optimizer.zero_grad()
            logits = body(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
            nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED).backward()
            optimizer.step()
        found.append({name: weight.detach().clone() for name, weight in body.named_parameters()})
    return found


def _state(computing: Any, names: dict[nn.Parameter, str]) -> dict[str, Weights]:
    """Of each weight with a state its value, moments and count of steps: whole, or this process's share of stage 3."""
    if hasattr(computing, "optimizer"):
        states = {weight: {"value": weight, **state} for weight, state in computing.optimizer.state.items()}
    else:
        zero = computing.zero
        states = {}
        for weight, one in carry.keep(computing.weights, computing.engine.optimizer, zero).items():
            shared = zero in (1, 2)
            whole = {part: weight.get_full_hp_param(part) for part in one.names} if shared else one.parts
            states[weight] = {"step": one.step, **{str(part): tensor for part, tensor in whole.items()}}
    return {
        names[weight]: {key: value.detach().clone() for key, value in state.items() if torch.is_tensor(value)}
        for weight, state in states.items()
    }


def _moments(computing: Any) -> int:
    """Values of the first moment that this process holds."""
    optimizer = computing.optimizer if hasattr(computing, "optimizer") else carry.inner(computing.engine.optimizer)
    return sum(kept.numel() for state in optimizer.state.values() for kept in [*moments(state).values()][:1])


def _trained(body: nn.Module) -> int:
    return sum(getattr(weight, "ds_numel", weight.numel()) for weight in body.parameters() if weight.requires_grad)
