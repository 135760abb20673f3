"""The head of a task and the last layers, with rates that fall from layer to layer."""

from collections.abc import Sequence

from trainer.config.strategy import Discriminative
from trainer.parameter import Parameter
from trainer.strategy import partial
from trainer.strategy.layers import is_below


def trains(settings: Discriminative, listed: Sequence[Parameter]) -> list[Parameter]:
    """The layers; norms behind the last one go with them. RecipeError where there are not so many."""
    if settings.last is None:
        return list(listed)
    behind = [one for one in listed if one.depth is None and one.part == "norms" and not is_below(one)]
    return [*partial.last(settings.last, listed), *behind]
