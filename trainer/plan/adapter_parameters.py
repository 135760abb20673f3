"""What an adapter adds and trains, known without its modules: the same choice of targets that the adapter makes."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from trainer.config.adapter import (
    AdaLora,
    Dora,
    Ia3,
    OfPeft,
    Oft,
    Prompt,
    Prompted,
    PTuning,
    Targeted,
    Thin,
    Vera,
)
from trainer.config.recipe import Recipe
from trainer.errors import Problem, RecipeError, did_you_mean
from trainer.parameter import Parameter, by_token, part_of

_WEIGHT = ".weight"
_PATTERN = "re:"
_TRANSPOSED = ("c_attn", "c_proj", "c_fc", "q_attn")
"""GPT-2's layers, which hold their matrices as [in, out]."""
_KEYS = ("k", "k_proj", "key", "key_proj")
_KEYS_AND_VALUES = (
    *_KEYS,
    *("v", "v_proj", "value", "value_proj"),
    *("c_attn", "query_key_value", "qkv_proj"),
)
_LAST_OF_MLP = ("down_proj", "wo", "c_proj", "fc2", "fc_out", "dense_4h_to_h", "w2", "output.dense")
"""Endings of names, of models that peft knows ia3 for."""
LSTM_LAYERS = 2
"""Of p-tuning, where it is one."""


PROMPT = "prompt"
"""The part of what stands before rows, and of what makes it."""
_GUARDED = 8192
"""Characters of what another process says that are told."""


def left(recipe: Recipe, listed: Sequence[Parameter]) -> list[Parameter]:
    """The parameters that an adapter leaves trainable: the model's own, or what it adds to them.

    Raises:
        RecipeError: a target that the model does not have, or settings that do not fit it.
    """
    if recipe.adapter.kind == "none":
        return list(listed)
    if isinstance(recipe.adapter, Prompted):
        return [_named(name, shape) for name, shape in _before_rows(recipe.adapter, listed).items()]
    if isinstance(recipe.adapter, OfPeft):
        return _by_peft(recipe.adapter, listed)
    _fits_in(recipe.adapter, listed)
    added = [replace(one, shape=shape) for one in targets(recipe.adapter, listed) for shape in _added(recipe, one)]
    rows = [
        replace(one, shape=(len(recipe.model.add_tokens), one.shape[1]), part="rows")
        for one in listed
        if recipe.model.add_tokens and by_token(one)
    ]
    return added + rows


def _named(name: str, shape: tuple[int, ...]) -> Parameter:
    return Parameter(f"prompt_encoder.{name}", shape, None, PROMPT)


def _before_rows(adapter: Prompted, listed: Sequence[Parameter]) -> dict[str, tuple[int, ...]]:
    """Shapes of what trains of trained embeddings, or of trained keys and values."""
    width = next((one.shape[1] for one in listed if by_token(one) and one.part == "embeddings"), 0)
    if isinstance(adapter, Prompt):
        return {"embedding.weight": (adapter.tokens, width)}
    if isinstance(adapter, PTuning):
        return _network(adapter, width)
    layers = len({(one.stack, one.depth) for one in listed if one.depth is not None})
    # Of heads that share their keys there are fewer.
    keys = next((one.shape[0] for one in listed if any(_fits(name, module_of(one)) for name in _KEYS)), width)
    kept = 2 * layers * keys
    if adapter.hidden is None:
        return {"embedding.weight": (adapter.tokens, kept)}
    return {
        "embedding.weight": (adapter.tokens, keys),
        "transform.0.weight": (adapter.hidden, keys),
        "transform.0.bias": (adapter.hidden,),
        "transform.2.weight": (kept, adapter.hidden),
        "transform.2.bias": (kept,),
    }


def _network(adapter: PTuning, width: int) -> dict[str, tuple[int, ...]]:
    """Of p-tuning: two hidden layers, or two layers of an LSTM that reads both ways and two linear ones."""
    found: dict[str, tuple[int, ...]] = {"embedding.weight": (adapter.tokens, width)}
    hidden, sides = adapter.hidden, [width, adapter.hidden, adapter.hidden, width]
    if adapter.encoder == "lstm":
        sides = [2 * hidden, 2 * hidden, width]
        for layer in range(LSTM_LAYERS):
            for way in ("", "_reverse"):
                found[f"lstm_head.weight_ih_l{layer}{way}"] = (4 * hidden, 2 * hidden if layer else width)
                found[f"lstm_head.weight_hh_l{layer}{way}"] = (4 * hidden, hidden)
                found |= {f"lstm_head.bias_{end}_l{layer}{way}": (4 * hidden,) for end in ("ih", "hh")}
    for number, (inner, outer) in enumerate(pairwise(sides)):
        found |= {f"mlp_head.{2 * number}.weight": (outer, inner), f"mlp_head.{2 * number}.bias": (outer,)}
    return found


def _by_peft(adapter: OfPeft, listed: Sequence[Parameter]) -> list[Parameter]:
    """What a method of peft makes of layers as large as the model's, in a process of its own that knows peft."""
    chosen = {module_of(one): one for one in targets(adapter, listed)}
    asked = {"method": adapter.method, "settings": {"target_modules": [*chosen], **adapter.settings}}
    matrices = [(one.name, one.shape, is_transposed(module_of(one))) for one in listed]
    found = _asked(json.dumps({**asked, "parameters": matrices}))
    # Which of the model's own each stands beside; what all share stands beside none.
    held = (
        (next((one for own, one in chosen.items() if name.startswith(f"{own}.")), None), shape) for name, shape in found
    )
    return [replace(one, shape=tuple(shape)) if one else _named(PROMPT, tuple(shape)) for one, shape in held]


@lru_cache(maxsize=4)
def _asked(question: str) -> tuple[tuple[str, list[int]], ...]:
    command = [sys.executable, "-P", str(Path(__file__).parents[1] / "adapter" / "skeleton.py")]
    done = subprocess.run(command, input=question, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        key, _, message = said[0][:_GUARDED].partition(": ")
        raise RecipeError(
            [Problem(key, message) if key.startswith("adapter.") else Problem("adapter.settings", said[0])]
        )
    return tuple((name, shape) for name, shape in json.loads(done.stdout))


def _fits_in(adapter: Targeted, listed: Sequence[Parameter]) -> None:
    """RecipeError where two thin matrices would be no smaller than the one that they stand beside, or blocks do not
    fill the inputs of one.
    """
    for one in targets(adapter, listed):
        name = module_of(one)
        if isinstance(adapter, Oft):
            inputs = one.shape[0 if is_transposed(name) else 1]
            if inputs % adapter.block:
                message = f"{adapter.block} does not divide the {inputs} inputs of {name}"
                way_out = f"set it to {_divisor(adapter.block, inputs)}"
                raise RecipeError([Problem("adapter.block", f"{message}; {way_out}")])
        elif isinstance(adapter, Thin | AdaLora):
            ranked = "first" if isinstance(adapter, AdaLora) else "r"
            rank = adapter.first if isinstance(adapter, AdaLora) else rank_of(adapter, name)
            if rank > min(one.shape):
                key = ranked if rank == getattr(adapter, ranked) else "ranks"
                message = f"{rank} is more than the smaller side of {name}, {min(one.shape)}; set it lower"
                raise RecipeError([Problem(f"adapter.{key}", message)])


def _divisor(wanted: int, inputs: int) -> int:
    """The divisor of `inputs` nearest below, or above where that is 1."""
    divisors = [number for number in range(2, inputs + 1) if inputs % number == 0]
    return max((one for one in divisors if one <= wanted), default=min(divisors))


def _added(recipe: Recipe, matrix: Parameter) -> list[tuple[int, ...]]:
    """Shapes of what stands beside a matrix of [out, in], or of GPT-2's [in, out]."""
    adapter, name = recipe.adapter, module_of(matrix)
    outputs, inputs = reversed(matrix.shape) if is_transposed(name) else matrix.shape
    if isinstance(adapter, Ia3):
        return [(1, inputs) if scales_inputs(name) else (outputs, 1)]
    if isinstance(adapter, Vera):
        return [(adapter.r,), (outputs,)]
    if isinstance(adapter, Oft):
        return [(inputs // adapter.block, adapter.block * (adapter.block - 1) // 2)]
    if isinstance(adapter, AdaLora):
        return [(adapter.first, inputs), (adapter.first, 1), (outputs, adapter.first)]
    # A of r x in and B of out x r (Hu et al. 2021, section 4.1).
    assert isinstance(adapter, Thin)
    rank = rank_of(adapter, name)
    thin: list[tuple[int, ...]] = [(rank, inputs), (outputs, rank)]
    return [*thin, (outputs,)] if isinstance(adapter, Dora) else thin


def is_transposed(name: str) -> bool:
    """Whether a layer holds its matrix as [in, out]."""
    return name.rpartition(".")[2] in _TRANSPOSED


def rank_of(adapter: Thin, name: str) -> int:
    """The rank beside a layer."""
    return next((rank for pattern, rank in adapter.ranks.items() if _fits(pattern, name)), adapter.r)


def alpha_of(adapter: Thin, name: str) -> int:
    """The alpha beside a layer."""
    return next((alpha for pattern, alpha in adapter.alphas.items() if _fits(pattern, name)), adapter.alpha)


def scales_inputs(name: str) -> bool:
    """Whether ia3 scales what enters a layer: the last one of an MLP."""
    return part_of(f"{name}{_WEIGHT}") == "mlp" and any(_fits(ending, name) for ending in _LAST_OF_MLP)


def targets(adapter: Targeted, listed: Iterable[Parameter]) -> list[Parameter]:
    """The matrices that get an adapter beside them, in the order of the model.

    Raises:
        RecipeError: an item of the list that fits none.
    """
    matrices = [one for one in listed if _is_matrix(one)]
    names = [module_of(one) for one in matrices]
    wrong = [
        Problem(f"adapter.{key}.{pattern}", f"{pattern!r} fits the name of no linear layer{_near(pattern, names)}")
        for key, patterns in _patterns(adapter)
        for pattern in patterns
        if not any(_fits(pattern, name) for name in names)
    ]
    if wrong:
        raise RecipeError(wrong)
    if adapter.targets is None and isinstance(adapter, Ia3):
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


def _patterns(adapter: Targeted) -> list[tuple[str, dict[str, int]]]:
    """The keys that hold names of layers."""
    return [("ranks", adapter.ranks), ("alphas", adapter.alphas)] if isinstance(adapter, Thin) else []


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
