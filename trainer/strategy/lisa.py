"""A few layers by chance for each stretch of steps; all that is no layer trains always (Pan et al. 2024)."""

import random

from trainer.config.strategy import Ends, Lisa
from trainer.errors import Problem, RecipeError
from trainer.strategy.layers import Layers
from trainer.strategy.phase import At, Model, Phase


def phases(settings: Lisa, model: Model) -> At:
    """Drawn by seed and number of the stretch, so that a resumed run draws the same.

    Raises:
        RecipeError: more layers than have something to train.
    """
    layers = Layers(model.listed)
    held: dict[int, set[str]] = {}
    always = set[str]()
    for one in model.listed:
        number = layers.of(one)
        if one.name in model.left:
            (always if number is None else held.setdefault(number, set())).add(one.name)
    if settings.layers > len(held):
        message = f"{settings.layers} layers are more than the model has to train, which is {len(held)}"
        raise RecipeError([Problem("strategy.layers", message)])
    ends = Ends(steps=settings.every)

    def at(number: int) -> Phase:
        drawn = sorted(random.Random(f"{model.seed} {number}").sample(sorted(held), settings.layers))
        names = always.union(*(held[layer] for layer in drawn))
        return Phase(f"layers {', '.join(map(str, drawn))}", frozenset(names), ends=ends)

    return at
