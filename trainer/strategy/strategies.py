"""The strategies by their `strategy.kind`, and what they let train of a model."""

from collections.abc import Callable, Iterator, Sequence, Set
from itertools import count, islice
from typing import Any

from trainer.config.recipe import Recipe
from trainer.config.strategy import Discriminative, Lisa
from trainer.errors import Problem, RecipeError
from trainer.parameter import Parameter
from trainer.strategy import decoder_only, discriminative, encoder_only, full, layerwise, lisa, partial
from trainer.strategy import phases as written
from trainer.strategy.phase import At, Model, Phase, once

STRATEGIES: dict[str, Callable[[Any, Model], At]] = {
    "full": once(full.trains),
    "partial": once(partial.trains),
    "encoder_only": once(encoder_only.trains),
    "decoder_only": once(decoder_only.trains),
    "discriminative": once(discriminative.trains),
    "layerwise": layerwise.phases,
    "lisa": lisa.phases,
    "phases": written.phases,
}
_DRAWS = 64
"""Phases that are looked at where they have no end."""


def phases(recipe: Recipe, listed: Sequence[Parameter], left: Set[str]) -> At:
    """The phases of a run; `listed` are all parameters of a model, and `left` what the adapter left trainable.

    Raises:
        RecipeError: a key that fits nothing of the model.
    """
    if isinstance(recipe.strategy, Discriminative) and not recipe.task.headed:
        why = f"discriminative is for tasks with a head of their own, and task.kind: {recipe.task.kind} has none"
        message = f"{why}; set it to partial, and optimizer.layer_decay beside it"
        raise RecipeError([Problem("strategy.kind", message)])
    model = Model(listed, frozenset(left), recipe.train.seed, recipe.task.headed)
    return STRATEGIES[recipe.strategy.kind](recipe.strategy, model)


def every(at: At) -> Iterator[Phase]:
    """One phase after the other, to the last one; those of `lisa` have none."""
    for number in count():
        if (phase := at(number)) is None:
            return
        yield phase


def largest(recipe: Recipe, listed: Sequence[Parameter], left: Set[str]) -> Set[str]:
    """The names of what trains in the phase that trains most; RecipeError as `phases`."""
    sizes = {one.name: one.size for one in listed}
    found = every(phases(recipe, listed, left))
    if isinstance(recipe.strategy, Lisa):
        found = islice(found, _DRAWS)
    names = (phase.names for phase in found)
    return max(names, key=lambda each: sum(sizes[name] for name in each), default=frozenset())


def nothing(recipe: Recipe) -> Problem:
    """What is wrong where nothing trains."""
    message = f"{recipe.strategy.kind} leaves nothing to train of what adapter.kind: {recipe.adapter.kind} trains"
    return Problem("strategy.kind", f"{message}; name other layers or parts")
