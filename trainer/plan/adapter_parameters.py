"""What an adapter adds and trains, known without its modules: the same choice of targets that the adapter makes."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from trainer.config.adapter import Adapter
from trainer.config.recipe import Recipe
from trainer.errors import Problem, RecipeError, did_you_mean
from trainer.parameter import Parameter, by_token

_WEIGHT = ".weight"
_PATTERN = "re:"


def left(recipe: Recipe, listed: Sequence[Parameter]) -> list[Parameter]:
    """The parameters that an adapter leaves trainable: the model's own, or what it adds to them.

    Raises:
        RecipeError: a target that the model does not have.
    """
    if recipe.adapter.kind == "none":
        return list(listed)
    # A of r x in and B of out x r for each target (Hu et al. 2021, section 4.1).
    added = [
        replace(one, shape=shape)
        for one in targets(recipe.adapter, listed)
        for shape in ((recipe.adapter.r, one.shape[1]), (one.shape[0], recipe.adapter.r))
    ]
    rows = [
        replace(one, shape=(len(recipe.model.add_tokens), one.shape[1]), part="rows")
        for one in listed
        if recipe.model.add_tokens and by_token(one)
    ]
    return added + rows


def targets(adapter: Adapter, listed: Iterable[Parameter]) -> list[Parameter]:
    """The matrices that get an adapter beside them, in the order of the model.

    Raises:
        RecipeError: an item of the list that fits none.
    """
    matrices = [one for one in listed if _is_matrix(one)]
    if adapter.targets == "all_linear":
        return [one for one in matrices if one.part != "head"]
    if isinstance(adapter.targets, str):
        return [one for one in matrices if one.part == adapter.targets]
    names = [module_of(one) for one in matrices]
    wrong = [
        Problem(f"adapter.targets.{index}", f"{target!r} fits the name of no linear layer{_near(target, names)}")
        for index, target in enumerate(adapter.targets)
        if not any(_fits(target, name) for name in names)
    ]
    if wrong:
        raise RecipeError(wrong)
    return [one for one, name in zip(matrices, names, strict=True) if any(_fits(t, name) for t in adapter.targets)]


def module_of(matrix: Parameter) -> str:
    """The name of the linear layer that holds a matrix."""
    return matrix.name.removesuffix(_WEIGHT)


def _is_matrix(one: Parameter) -> bool:
    return len(one.shape) == 2 and one.name.endswith(_WEIGHT) and one.part not in ("embeddings", "norms")


def _fits(target: str, name: str) -> bool:
    """A regular expression fits the whole name, an ending its last parts."""
    if target.startswith(_PATTERN):
        return re.fullmatch(target.removeprefix(_PATTERN), name) is not None
    return name == target or name.endswith(f".{target}")


def _near(target: str, names: Iterable[str]) -> str:
    endings = {name.rpartition(".")[2] for name in names}
    return did_you_mean(target.removeprefix(_PATTERN), endings)
