"""Some layers, or some parts of a model."""

import re
from collections.abc import Callable, Sequence
from typing import get_args

from trainer.config.strategy import PATTERN, Chosen, Part
from trainer.errors import Problem, RecipeError, did_you_mean
from trainer.parameter import Parameter
from trainer.strategy.layers import Layers

Fits = Callable[[Parameter], bool]
_PARTS: dict[str, Fits] = {
    "bias": lambda one: one.name.endswith(".bias"),
    "cross_attention": lambda one: one.crosses,
    "encoder": lambda one: one.half == "encoder",
    "decoder": lambda one: one.half == "decoder",
    "vision": lambda one: one.sees,
    "projector": lambda one: one.projects,
}
"""Those that are no `Parameter.part`."""


def trains(settings: Chosen, listed: Sequence[Parameter]) -> list[Parameter]:
    """What any of the keys names.

    Raises:
        RecipeError: more layers than there are; a part or a pattern that fits nothing; no key at all.
    """
    layers = Layers(listed)
    chosen = [_last(settings.last, layers)] if settings.last is not None else []
    if settings.layers is not None:
        chosen.append(_range(settings.layers, layers))
    wrong = []
    for index, item in enumerate(settings.train):
        fits = _named(item)
        if isinstance(fits, str):
            wrong.append(Problem(f"strategy.train.{index}", fits))
        elif not any(map(fits, listed)):
            wrong.append(Problem(f"strategy.train.{index}", f"{item!r} fits no parameter{_near(item, listed)}"))
        else:
            chosen.append(fits)
    if not chosen and not wrong:
        wrong.append(Problem("strategy", "names nothing to train; give it last, layers or train"))
    if wrong:
        raise RecipeError(wrong)
    return [one for one in listed if any(fits(one) for fits in chosen)]


def last(count: int, listed: Sequence[Parameter]) -> list[Parameter]:
    """The parameters of so many layers at the top; RecipeError where there are not so many."""
    fits = _last(count, Layers(listed))
    return [one for one in listed if fits(one)]


def _last(count: int, layers: Layers) -> Fits:
    if count > len(layers):
        message = f"{count} layers are more than the model has, which is {len(layers)}"
        raise RecipeError([Problem("strategy.last", message)])
    return lambda one: (number := layers.of(one)) is not None and number >= len(layers) - count


def _range(held: tuple[int, int], layers: Layers) -> Fits:
    first, end = held
    if not 0 <= first <= end < len(layers):
        message = f"[{first}, {end}] names no layers of the model, which are 0 to {len(layers) - 1}"
        raise RecipeError([Problem("strategy.layers", message)])
    return lambda one: (number := layers.of(one)) is not None and first <= number <= end


def _named(item: str) -> Fits | str:
    """Whether a parameter is one that an item names; text that says what is wrong with the item."""
    if item.startswith(PATTERN):
        try:
            pattern = re.compile(item.removeprefix(PATTERN))
        except re.error as error:
            return f"{item!r} is no regular expression: {error}"
        return lambda one: pattern.fullmatch(one.name) is not None
    if item not in get_args(Part):
        return f"{item!r} is no part of a model{did_you_mean(item, get_args(Part))}; `re:` begins a regular expression"
    fits: Fits = _PARTS.get(item, lambda one: one.part == item)
    return fits


def _near(item: str, listed: Sequence[Parameter]) -> str:
    """What a user may have meant."""
    if item.startswith(PATTERN):
        return did_you_mean(item.removeprefix(PATTERN), [one.name for one in listed])
    parts = [part for part in get_args(Part) if not isinstance(fits := _named(part), str) and any(map(fits, listed))]
    return f"; this model has {', '.join(parts)}"
