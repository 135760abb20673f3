"""What an adapter adds and trains, known without its modules: the same choice of targets that the adapter makes."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from trainer.config.adapter import Adapter
from trainer.config.recipe import Recipe
from trainer.errors import Problem, RecipeError, did_you_mean
from trainer.parameter import Parameter, by_token, part_of

_WEIGHT = ".weight"
_PATTERN = "re:"
_TRANSPOSED = ("c_attn", "c_proj", "c_fc", "q_attn")
"""GPT-2's layers, which hold their matrices as [in, out]."""
_KEYS_AND_VALUES = (
    *("k", "v", "k_proj", "v_proj", "key", "value", "key_proj", "value_proj"),
    *("c_attn", "query_key_value", "qkv_proj"),
)
_LAST_OF_MLP = ("down_proj", "wo", "c_proj", "fc2", "fc_out", "dense_4h_to_h", "w2", "output.dense")
"""Endings of names, of models that peft knows ia3 for."""


def left(recipe: Recipe, listed: Sequence[Parameter]) -> list[Parameter]:
    """The parameters that an adapter leaves trainable: the model's own, or what it adds to them.

    Raises:
        RecipeError: a target that the model does not have.
    """
    if recipe.adapter.kind == "none":
        return list(listed)
    _ranks_fit(recipe, listed)
    added = [replace(one, shape=shape) for one in targets(recipe.adapter, listed) for shape in _added(recipe, one)]
    rows = [
        replace(one, shape=(len(recipe.model.add_tokens), one.shape[1]), part="rows")
        for one in listed
        if recipe.model.add_tokens and by_token(one)
    ]
    return added + rows


def _ranks_fit(recipe: Recipe, listed: Sequence[Parameter]) -> None:
    """RecipeError where two thin matrices would be no smaller than the one that they stand beside."""
    adapter = recipe.adapter
    for one in targets(adapter, listed) if adapter.thin else ():
        rank, side = rank_of(adapter, module_of(one)), min(one.shape)
        if rank > side:
            key = "r" if rank == adapter.r else "ranks"
            message = f"{rank} is more than the smaller side of {module_of(one)}, {side}; set it lower"
            raise RecipeError([Problem(f"adapter.{key}", message)])


def _added(recipe: Recipe, matrix: Parameter) -> list[tuple[int, ...]]:
    """Shapes of what stands beside a matrix of [out, in], or of GPT-2's [in, out]."""
    adapter, name = recipe.adapter, module_of(matrix)
    outputs, inputs = reversed(matrix.shape) if name.rpartition(".")[2] in _TRANSPOSED else matrix.shape
    if adapter.kind == "ia3":
        return [(1, inputs) if scales_inputs(name) else (outputs, 1)]
    # A of r x in and B of out x r (Hu et al. 2021, section 4.1).
    rank = rank_of(adapter, name)
    thin: list[tuple[int, ...]] = [(rank, inputs), (outputs, rank)]
    return [*thin, (outputs,)] if adapter.kind == "dora" else thin


def rank_of(adapter: Adapter, name: str) -> int:
    """The rank beside a layer."""
    return next((rank for pattern, rank in adapter.ranks.items() if _fits(pattern, name)), adapter.r)


def alpha_of(adapter: Adapter, name: str) -> int:
    """The alpha beside a layer."""
    return next((alpha for pattern, alpha in adapter.alphas.items() if _fits(pattern, name)), adapter.alpha)


def scales_inputs(name: str) -> bool:
    """Whether ia3 scales what enters a layer: the last one of an MLP."""
    return part_of(f"{name}{_WEIGHT}") == "mlp" and any(_fits(ending, name) for ending in _LAST_OF_MLP)


def targets(adapter: Adapter, listed: Iterable[Parameter]) -> list[Parameter]:
    """The matrices that get an adapter beside them, in the order of the model.

    Raises:
        RecipeError: an item of the list that fits none.
    """
    matrices = [one for one in listed if _is_matrix(one)]
    names = [module_of(one) for one in matrices]
    wrong = [
        Problem(f"adapter.{key}.{pattern}", f"{pattern!r} fits the name of no linear layer{_near(pattern, names)}")
        for key, patterns in (("ranks", adapter.ranks), ("alphas", adapter.alphas))
        for pattern in patterns
        if not any(_fits(pattern, name) for name in names)
    ]
    if wrong:
        raise RecipeError(wrong)
    if adapter.targets is None and adapter.kind == "ia3":
        return [
            one
            for one, name in zip(matrices, names, strict=True)
            if scales_inputs(name) or any(_fits(ending, name) for ending in _KEYS_AND_VALUES)
        ]
    if adapter.targets in ("all_linear", None):
        return [one for one in matrices if one.part != "head"]
    if isinstance(adapter.targets, str):
        return [one for one in matrices if one.part == adapter.targets]
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
