"""The smallest recipe, and variations of it."""

from typing import Any

from trainer.config.load import recipe_of
from trainer.config.recipe import Recipe

LEAST = {"model": {"name": "-"}, "data": {"train": [{"path": "-", "format": "text"}]}}
"""Nothing but what has no default."""


def content(**sections: Any) -> dict[str, Any]:
    """The least recipe with the keys of these sections besides."""
    merged: dict[str, Any] = {**LEAST}
    for name, keys in sections.items():
        merged[name] = {**LEAST.get(name, {}), **keys} if isinstance(keys, dict) else keys
    return merged


def recipe(**sections: Any) -> Recipe:
    """The same, read."""
    return recipe_of(content(**sections))
