"""Some steps under the audit, in every engine, with one thing that is wrong."""

from typing import Any

import torch
from distributed import steps
from torch import nn

from trainer import ranks
from trainer.callbacks.audit import Audit
from trainer.config.optimizer import Optimizer
from trainer.data.batches import Layout, Windows
from trainer.errors import RunError
from trainer.loop.state import State
from trainer.loop.train import accumulate
from trainer.tasks.causal_lm import NextToken

STEPS = 30


def run(kind: str, zero: int, wrong: str, master: str = "float32", dtype: str = "float32") -> tuple[str, list[str]]:
    """What the audit ended the steps with, or nothing, and what it said."""
    objective, body = NextToken(), steps.model(packing=False, dtype=getattr(torch, dtype))
    for name, weight in body.named_parameters():
        weight.requires_grad_("layers.1" in name or "norm" in name)
    body.model.embed_tokens.weight.requires_grad_(False)
    if wrong == "unused":
        body.unused = nn.Linear(4, 4).to(getattr(torch, dtype))
    computing = steps.engine(kind, zero, 4, dtype=dtype)
    module = objective.module(body, None, whole=computing.shards.whole)
    computing.prepare(module, Optimizer(lr=1e-3, master=master))
    layout = Layout(global_=8, micro=4, packing=False, micro_tokens=100, pad=0)
    collate = objective.collate("train")
    split = steps.random_rows(8 * STEPS)
    windows = Windows(split, layout, rank=ranks.rank(), ranks=ranks.world_size(), seed=None, collate=collate)
    said: list[str] = []
    audit, state = Audit(computing, said.append), State(steps=STEPS)
    found = ""
    audit.start(state)
    try:
        for step in range(STEPS):
            window = windows.window(step)
            counts = ranks.all_reduce(objective.counts(window.batches))
            accumulate(computing, objective, window, counts, seed=0)
            computing.step(1e-3)
            if wrong == "decayed" and step == 0:
                _shrink(computing, module)
            state.step += 1
            audit.step_end(state)
    except RunError as error:
        found = str(error)
    computing.release()
    return found, said


def _shrink(computing: Any, module: nn.Module) -> None:
    """What weight decay would do to a frozen matrix, on one rank alone."""
    weight = dict(module.named_parameters())["model.model.layers.0.mlp.up_proj.weight"]
    if ranks.rank() == ranks.world_size() - 1:
        held = getattr(weight, "ds_tensor", weight)
        held.data.mul_(0.999)
