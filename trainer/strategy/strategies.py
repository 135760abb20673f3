"""The strategies by their `strategy.kind`, and what they leave trainable of a model."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trainer.config.recipe import Recipe
from trainer.config.strategy import Discriminative
from trainer.errors import Problem, RecipeError
from trainer.parameter import Parameter, parameter
from trainer.strategy import decoder_only, discriminative, encoder_only, full, partial

if TYPE_CHECKING:
    from torch import nn

STRATEGIES: dict[str, Callable[[Any, Sequence[Parameter]], list[Parameter]]] = {
    "full": full.trains,
    "partial": partial.trains,
    "encoder_only": encoder_only.trains,
    "decoder_only": decoder_only.trains,
    "discriminative": discriminative.trains,
}
_OF_A_HEAD = ("head", "pooler")
"""What belongs to the head of a task, which always trains: nothing else would make it right."""


def chosen(recipe: Recipe, listed: Sequence[Parameter]) -> set[str]:
    """The names of the parameters that a strategy lets train, of all of a model; the adapter's choice stands besides.

    Raises:
        RecipeError: a key that fits nothing of the model.
    """
    kind = recipe.strategy.kind
    found = {one.name for one in STRATEGIES[kind](recipe.strategy, listed)}
    if recipe.task.headed:
        found |= {one.name for one in listed if one.part in _OF_A_HEAD}
    elif isinstance(recipe.strategy, Discriminative):
        why = f"discriminative is for tasks with a head of their own, and task.kind: {recipe.task.kind} has none"
        message = f"{why}; set it to partial, and optimizer.layer_decay beside it"
        raise RecipeError([Problem("strategy.kind", message)])
    return found


def freeze(model: "nn.Module", recipe: Recipe) -> None:
    """Freezes what the strategy does not train; what the adapter froze stays frozen.

    Raises:
        RecipeError: nothing is left that trains.
    """
    weights = dict(model.named_parameters())
    # Under ZeRO-3 a parameter's own shape is empty, and `ds_shape` holds the real one.
    listed = [parameter(name, tuple(getattr(one, "ds_shape", one.shape))) for name, one in weights.items()]
    names = chosen(recipe, listed)
    for name, weight in weights.items():
        if name not in names:
            weight.requires_grad_(False)
    if not recipe.task.headed and not any(weight.requires_grad for weight in weights.values()):
        raise RecipeError([nothing(recipe)])


def nothing(recipe: Recipe) -> Problem:
    """What is wrong where nothing trains."""
    message = f"{recipe.strategy.kind} leaves nothing to train of what adapter.kind: {recipe.adapter.kind} trains"
    return Problem("strategy.kind", f"{message}; name other layers or parts")
