"""Body, head and loss as one module that an engine trains, in the fastest form that computes the same."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from trainer import ranks
from trainer.adapter import lora_product
from trainer.adapter.adapted import Adapted
from trainer.config.adapter import Thin
from trainer.config.recipe import Recipe
from trainer.data.batches import Batch, Steps, Window
from trainer.engine.engine import Engine
from trainer.errors import Problem, RecipeError
from trainer.kernels import library
from trainer.model import checkpointing, quantize
from trainer.model.compiling import compile_layers
from trainer.model.fusing import fuse
from trainer.model.load import DTYPES
from trainer.optim.groups import NO_PHASES, groups, in_words, shape_of, shown
from trainer.plan.plan import Plan
from trainer.strategy import rates
from trainer.strategy.course import Since
from trainer.tasks.objective import Objective

Say = Callable[[str], None]
IN_8_BITS = 0.2
"""How far an example's hidden states may move, of the largest, by the others that it is computed with, where they
decide how inputs are rounded; one that sees the others moves by more.
"""
Look = Callable[[nn.Module, Sequence[Batch], torch.device], None]


def build(
    recipe: Recipe,
    plan: Plan,
    objective: Objective,
    adapted: Adapted,
    engine: Engine,
    say: Say,
    since: Since = NO_PHASES,
    begins: Steps | None = None,
) -> nn.Module:
    """The module, which the engine has taken; `since` is as the engine says, `begins` the steps of a run that begins,
    None where one goes on.
    """
    model = adapted.model
    compute = DTYPES[plan.precision] if plan.precision != recipe.model.dtype else None
    module = objective.module(model, compute, whole=engine.shards.whole)
    checkpointed = recipe.train.checkpointing != "none"
    lacking = compile_layers(model, checkpointed=checkpointed) if recipe.train.compile else None
    if lacking is not None:
        say(f"train.compile: {lacking}; the layers run as they are.")
    compiled = recipe.train.compile and lacking is None
    # Selective checkpointing keeps the results of products, which must not be added to in place.
    in_place = not compiled and recipe.train.checkpointing not in ("selective", "auto")
    if in_place and isinstance(recipe.adapter, Thin) and engine.shards.whole:
        lora_product.fuse(model)
    _kernels(recipe, model, engine.device, say, compiled=compiled)
    checkpointing.set_up(model, recipe.train.checkpointing)
    if adapted.look and begins:
        _look(adapted.look, module, begins.window(0), engine)
    settings = rates.settings_of(recipe)
    engine.prepare(module, settings, since)
    if adapted.budget is not None:
        adapted.budget.steps = plan.steps or recipe.train.max_steps or 0
        engine.budget = adapted.budget
    if recipe.strategy.kind != "full" or len(rates_of(recipe, module)) > 1:
        say(trained(recipe, module))
    return module


def _look(look: Look, module: nn.Module, window: Window, engine: Engine) -> None:
    """Lets an adapter begin by rows; RecipeError where the model is shared out already."""
    if not engine.shards.whole:
        message = "eva looks at a whole model, which ZeRO-3 shares out; set engine.zero to 2, or this to default"
        raise RecipeError([Problem("adapter.start", message)])
    look(module.to(engine.device), window.batches, engine.device)


def trained(recipe: Recipe, module: nn.Module) -> str:
    """What trains now, in words."""
    rows = shown(groups(rates.settings_of(recipe), module))
    return in_words(rows, sum(math.prod(shape_of(weight)) for weight in module.parameters()))


def rates_of(recipe: Recipe, module: nn.Module) -> dict[str, float]:
    """What the rates of groups are of the run's, by their names; none where all have the same."""
    rows = shown(groups(rates.settings_of(recipe), module))
    return {row.rate: row.scale for row in rows} if len(rows) > 1 else {}


def _kernels(recipe: Recipe, model: PreTrainedModel, device: torch.device, say: Say, *, compiled: bool) -> None:
    """Turns the processor's kernels on, or says why not; compiled layers keep their own operations."""
    wanted = recipe.train.kernels == "auto" and device.type == "cpu"
    if wanted and (lacking := library.lacking()):
        say(f"train.kernels: {lacking}; torch's own operations run instead.")
    library.turn(on=wanted)
    if wanted and not compiled:
        fuse(model)


def compare_forward(module: Any, window: Window, engine: Engine, say: Say) -> None:
    """Holds our forward against the model's own before it is trusted; the largest difference of all ranks counts."""
    body, head, allowed = _differences(module, window, engine)
    if body > allowed and library.turned_on():
        say(f"The processor's kernels would differ by {body:.1e} on this model: torch's own operations run instead.")
        library.turn(on=False)
        body, head, allowed = _differences(module, window, engine)
    if body > allowed:
        raise RecipeError(
            [
                Problem(
                    "data.packing",
                    f"this model lets packed examples see each other (difference {body:.1e}); set it to false",
                )
            ]
        )
    if head > allowed:
        module.own_forward = True
        say(f"The model's own forward makes the logits: a plain head would differ by {head:.1e}.")


def _differences(module: Any, window: Window, engine: Engine) -> tuple[float, float, float]:
    """Of hidden states and logits to the model's own, over all ranks, and what is allowed."""
    with engine.gathered():
        (body, head), allowed = module.compare_with_own_logits(window.batches[0].to(engine.device))
    if quantize.rounds_inputs(module):
        allowed = max(allowed, IN_8_BITS)
    return max(ranks.all_gather(body)), max(ranks.all_gather(head)), allowed
