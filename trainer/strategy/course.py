"""What trains of a model that is there, phase after phase."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from trainer.config.recipe import Recipe
from trainer.errors import RecipeError
from trainer.parameter import parameter
from trainer.strategy import strategies
from trainer.strategy.phase import Phase

if TYPE_CHECKING:
    from torch import nn

Since = Mapping["nn.Parameter", int]
"""Of weights that train, the number of the phase in which they began to; 0 for one that is not there."""


class Course:
    """The phases of a run; made once the adapter has frozen what it freezes."""

    def __init__(self, recipe: Recipe, model: "nn.Module") -> None:
        """RecipeError for a key that fits nothing of the model."""
        self._recipe, self._weights = recipe, dict(model.named_parameters())
        # Under ZeRO-3 a parameter's own shape is empty, and `ds_shape` holds the real one.
        shapes = {name: tuple(getattr(one, "ds_shape", one.shape)) for name, one in self._weights.items()}
        left = {name for name, one in self._weights.items() if one.requires_grad}
        listed = [parameter(name, shape) for name, shape in shapes.items()]
        self._at = cache(strategies.phases(recipe, listed, left))

    def at(self, number: int) -> Phase:
        """The phase of a number, from 0."""
        phase = self._at(number)
        assert phase is not None, f"there is no phase {number}"
        return phase

    def has(self, number: int) -> bool:
        """Whether there are so many."""
        return self._at(number) is not None

    def enter(self, number: int) -> Since:
        """Lets train what trains in a phase, and freezes all else; since when each weight trains without a break.

        Raises:
            RecipeError: nothing is left that trains.
        """
        phase = self.at(number) if self.has(0) else None
        names = phase.names if phase is not None else frozenset[str]()
        for name, weight in self._weights.items():
            weight.requires_grad_(name in names)
        if not names and not self._recipe.task.headed:
            raise RecipeError([strategies.nothing(self._recipe)])
        return {self._weights[name]: self._began(name, number) for name in names}

    def _began(self, name: str, number: int) -> int:
        while number > 0 and name in self.at(number - 1).names:
            number -= 1
        return number
