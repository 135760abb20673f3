"""Whether an adapter, an engine and a kind of base go together, and why not: `shardtune why-not lora zero=3 nf4`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from trainer.config import adapter, strategy, task
from trainer.config.adapter import Lora
from trainer.config.engine import Engine
from trainer.config.load import apply, recipe_of
from trainer.config.model import Model
from trainer.config.recipe import Recipe
from trainer.errors import Problem, RecipeError, did_you_mean
from trainer.plan import adapter_pairs, deepspeed_json
from trainer.plan.adapter_pairs import Pair

SHORT = {
    "zero": "engine.zero",
    "offload": "engine.offload",
    "processes": "launch.processes",
    "start": "adapter.start",
    "method": "adapter.method",
    "dtype": "model.dtype",
}
"""Keys that need no section."""


@dataclass(frozen=True)
class Answer:
    """What is known of a combination."""

    works: bool | None
    """None where nothing forbids it, and it did not run."""
    why: tuple[str, ...]


def ask(words: Sequence[str]) -> Answer:
    """What forbids it, or whether it ran; RecipeError where a word is not known."""
    content: dict[str, Any] = {
        "model": {"name": "-"},
        "data": {"train": [{"path": "-", "format": "text"}]},
    }
    for word in words:
        setting = _setting(word)
        if (wrong := apply(content, setting)) is not None:
            raise RecipeError([wrong])
    try:
        recipe = recipe_of(content)
    except RecipeError as error:
        return Answer(works=False, why=tuple(f"{one.where}: {one.message}" for one in error.problems))
    if problems := deepspeed_json.problems(recipe):
        return Answer(works=False, why=tuple(f"{one.where}: {one.message}" for one in problems))
    return _ran(recipe)


def _setting(word: str) -> str:
    """A word as `section.key=value`."""
    key, separator, value = word.partition("=")
    if separator:
        return f"{SHORT.get(key, key)}={value}"
    known = {
        "adapter.kind": adapter.KINDS,
        "engine.kind": get_args(Engine.model_fields["kind"].annotation),
        "model.quantization": get_args(Model.model_fields["quantization"].annotation),
        "strategy.kind": strategy.KINDS,
        "task.kind": tuple(task.BY_KIND),
    }
    for name, values in known.items():
        if word in values and word not in ("none", "auto"):
            return f"{name}={word}"
    everything = {value for values in known.values() for value in values} - {"none", "auto"}
    raise RecipeError(
        [Problem(word, f"is no adapter, engine, kind of base, strategy or task{did_you_mean(word, everything)}")]
    )


def _ran(recipe: Recipe) -> Answer:
    """What is known of a combination that no rule forbids."""
    kind, engine = recipe.adapter.kind, recipe.engine
    start = recipe.adapter.start if isinstance(recipe.adapter, Lora) else "default"
    named = kind if start == "default" else f"{kind} start={start}"
    zero = engine.zero if engine.zero not in ("auto", 0) else None
    torch = "torch processes=2" if recipe.launch.processes not in ("auto", 1) else "torch"
    wanted = (named, f"zero={zero}" if zero else torch, recipe.model.quantization)
    found = next((one for one in adapter_pairs.pairs() if (one.adapter, one.engine, one.stored) == wanted), None)
    if found is None or recipe.strategy.kind != "full" or engine.offload != "none" or recipe.task.kind != "causal_lm":
        return Answer(works=None, why=("nothing forbids it; it is not among what was run for this answer",))
    return Answer(found.works, (_told(found),))


def _told(pair: Pair) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in adapter_pairs.versions().items())
    return f"{pair.told} ({pair.engine}, {versions})"
