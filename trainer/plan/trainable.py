"""Which parameters of a recipe's model train: what its adapter leaves trainable and its strategy chooses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.config.recipe import Recipe
from trainer.config.strategy import PHASED, Layerwise, Phases
from trainer.errors import Problem, RecipeError
from trainer.parameter import Parameter, parameter
from trainer.plan import adapter_parameters, parameters
from trainer.plan.moments import form
from trainer.strategy import strategies

ROWS = "rows"
"""The part of the rows of new tokens, which train beside an adapter."""


@dataclass(frozen=True)
class Counts:
    """Parameters of a model with its adapter."""

    total: int
    trainable: int


def counts(recipe: Recipe, listed: Sequence[Parameter]) -> Counts:
    """The parameters of the recipe's model, whose own ones are `listed`.

    Raises:
        RecipeError: a key of the adapter or the strategy that fits nothing of the model.
    """
    base = sum(one.size for one in listed)
    added = 0 if recipe.adapter.kind == "none" else sum(one.size for one in adapter_parameters.left(recipe, listed))
    return Counts(base + added, sum(one.size for one in trained(recipe, listed)))


def trained(recipe: Recipe, listed: Sequence[Parameter]) -> list[Parameter]:
    """The parameters that train, in the phase that trains most.

    Raises:
        RecipeError: a key of the adapter or the strategy that fits nothing of the model.
    """
    left, head = adapter_parameters.left(recipe, listed), _head(recipe)
    names = strategies.largest(recipe, [*listed, *head], {one.name for one in [*left, *head]})
    return [one for one in left if one.name in names or one.part in (ROWS, adapter_parameters.PROMPT)]


def phases_fit(recipe: Recipe, listed: Sequence[Parameter], steps: int, per_epoch: int | None) -> Problem | None:
    """Whether the last phase begins before the run ends, as far as the ends of phases are known beforehand."""
    strategy = recipe.strategy
    if not isinstance(strategy, Layerwise | Phases):
        return None
    left = {one.name for one in [*adapter_parameters.left(recipe, listed), *_head(recipe)]}
    found = list(strategies.every(strategies.phases(recipe, [*listed, *_head(recipe)], left)))
    begins = 0.0
    for phase in found[:-1]:
        begins += phase.ends.steps or (phase.ends.epochs or 0.0) * (per_epoch or 0)
    if not found or begins < steps:
        return None
    key = "strategy.phases" if isinstance(strategy, Phases) else f"strategy.{strategy.ends[0]}"
    message = f"the last of {len(found)} phases ({found[-1].called}) would begin after step {math.ceil(begins)}"
    return Problem(key, f"{message}, and the run has {steps}; let phases end earlier, or train longer")


def shares_are_carried(recipe: Recipe, zero: int) -> Problem | None:
    """What DeepSpeed shares out in a form of our own is not carried from one phase to the next."""
    if zero == 0 or recipe.strategy.kind not in PHASED:
        return None
    kind, master = recipe.optimizer.kind, recipe.optimizer.master
    key, value = ("kind", kind) if kind == "adamw_8bit" else ("master", master)
    if value not in ("adamw_8bit", "kahan"):
        return None
    message = f"{value} is not carried from one phase of {recipe.strategy.kind} to the next under ZeRO-{zero}"
    return Problem(f"optimizer.{key}", f"{message}; set it to {'adamw' if key == 'kind' else 'float32'}")


def optimizer_is_used(recipe: Recipe, listed: Sequence[Parameter]) -> Problem | None:
    """What is for some matrices finds one among those that train."""
    settings = recipe.optimizer
    if settings.kind not in ("muon", "galore"):
        return None
    left = trained(recipe, listed)
    if any(form(settings, one, embeds=one.part == "embeddings") == settings.kind for one in left):
        return None
    if settings.kind == "muon":
        return Problem("optimizer.kind", "no matrix inside a layer trains, which muon is for; set it to adamw")
    sides = [min(one.shape) for one in left if one.depth is not None and len(one.shape) == 2]
    way_out = f"set it below {max(sides)}" if max(sides, default=0) > 1 else "set optimizer.kind: adamw"
    message = f"no matrix inside a layer that trains has a smaller side above {settings.galore.rank}; {way_out}"
    return Problem("optimizer.galore.rank", message)


def _head(recipe: Recipe) -> list[Parameter]:
    """The head of a task, which is none of the model's own parameters."""
    return [parameter("score.weight", (0,))] if recipe.task.headed else []


def problems(recipe: Recipe) -> list[Problem]:
    """Keys that fit nothing of the model, as far as this machine can see."""
    plain = recipe.adapter.kind == "none" and recipe.strategy.kind == "full"
    if plain or parameters.problems(recipe.model):
        return []
    listed = parameters.of_model(recipe.model, None)
    try:
        left = trained(recipe, listed or [])
    except RecipeError as error:
        return list(error.problems) if listed else []
    if listed and not left and not recipe.task.headed:
        return [strategies.nothing(recipe)]
    return []
