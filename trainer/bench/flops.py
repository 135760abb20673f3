"""Floating-point operations that the model of a run needs, whatever the run spends besides.

A matrix of n values costs 2 n a token in the forward pass, 2 n for the gradient of its inputs where something before it
trains, and 2 n for its own gradient where it trains itself: a frozen base has none (Hu et al. 2021). The head is needed
where something is learned alone. Attention costs 4 x width x S^2 an example of length S and layer, of which a causal
mask leaves half, and twice as much in the backward pass. Padding and what is computed again do not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config.recipe import Recipe
from trainer.errors import RecipeError
from trainer.parameter import Parameter, by_token
from trainer.plan import architectures, parameters, pretrained, trainable

_ORDER = ("embeddings", "norms", "attention", "mlp")
"""Parts of a layer, as data flow through them."""


@dataclass(frozen=True)
class Cost:
    """Operations of a step, by what it holds."""

    token: float
    target: float
    square: float
    """For each unit of the summed squared lengths."""

    def of(self, tokens: float, targets: float, squares: float) -> float:
        """Those of a step of this size."""
        return self.token * tokens + self.target * targets + self.square * squares


def cost(recipe: Recipe, run: Path, plan: Mapping[str, Any]) -> Cost | None:
    """The cost of the model that a run trained; None where no formula is known for it.

    `plan` is the run's plan.json: where the formula does not give its numbers of parameters, it is not believed.
    """
    if recipe.task.kind != "causal_lm":
        return None
    try:
        settings, listed = _model(recipe, run)
    except RecipeError:
        return None
    if settings is None or listed is None:
        return None
    trained = trainable.trained(recipe, listed)
    counts = trainable.counts(recipe, listed)
    if {"total": counts.total, "trainable": counts.trainable} != plan["parameters"]:
        return None
    return _cost(settings, listed, trained, thin=recipe.adapter.kind != "none")


def _model(recipe: Recipe, run: Path) -> tuple[dict[str, Any] | None, list[Parameter] | None]:
    """The settings of the model, where its type has a formula, and its parameters."""
    model = recipe.model
    if model.name is not None:
        folder = pretrained.folder(model)
        settings = pretrained.settings(folder) if folder else {}
        vocabulary = pretrained.vocabulary(folder, model) if folder else None
    else:
        settings = dict(model.config or {})
        vocabulary = pretrained.vocabulary(run / "tokenizer", model)
        settings["vocab_size"] = vocabulary
    if architectures.shapes(settings) is None:
        return None, None
    return architectures.settings_of(settings), parameters.of_model(model, vocabulary)


def _cost(
    settings: Mapping[str, Any], listed: Sequence[Parameter], trained: Sequence[Parameter], *, thin: bool
) -> Cost:
    own = set() if thin else {one.name for one in trained}
    lowest = min((_place(one) for one in trained), default=(float("inf"), 0))
    matrices = [one for one in listed if len(one.shape) == 2 and one.part in ("attention", "mlp")]
    # A head that shares the embeddings' matrix is not listed by itself.
    heads = [one for one in listed if one.part == "head" and len(one.shape) == 2] or [
        one for one in listed if by_token(one)
    ]
    token = sum(one.size * (2 + 2 * (_place(one) > lowest) + 2 * (one.name in own)) for one in matrices)
    if thin:
        token += sum(6 * one.size for one in trained if one.part in ("attention", "mlp"))
    backward = 2 if trained and lowest[0] < float("inf") else 0
    target = sum(one.size * (2 + backward + 2 * (one.name in own)) for one in heads)
    layers = {one.depth for one in matrices}
    passes = sum(1 + 2 * (depth is not None and depth >= lowest[0]) for depth in layers)
    return Cost(token=token, target=target, square=2 * _width(settings) * passes)


def _place(one: Parameter) -> tuple[float, int]:
    """Where a parameter stands as data flow: its layer, and its part there."""
    if one.part == "embeddings":
        return -1, 0
    if one.depth is None:
        return float("inf"), 0
    return one.depth, _ORDER.index(one.part) if one.part in _ORDER else len(_ORDER)


def _width(settings: Mapping[str, Any]) -> int:
    """Values of the queries of a token in one layer."""
    if "n_embd" in settings:
        return int(settings["n_embd"])
    heads = int(settings["num_attention_heads"])
    return heads * int(settings.get("head_dim") or settings["hidden_size"] // heads)
