"""Which parameters of a recipe's model train: what its adapter leaves trainable and its strategy chooses."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.config.recipe import Recipe
from trainer.errors import Problem, RecipeError
from trainer.parameter import Parameter, parameter
from trainer.plan import adapter_parameters, parameters
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
    """The parameters that train.

    Raises:
        RecipeError: a key of the adapter or the strategy that fits nothing of the model.
    """
    # A head of a task is none of the model's own parameters.
    head = [parameter("score.weight", (0,))] if recipe.task.headed else []
    names = strategies.chosen(recipe, [*listed, *head])
    return [one for one in adapter_parameters.left(recipe, listed) if one.name in names or one.part == ROWS]


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
