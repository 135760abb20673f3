"""The rows of a suite, each with the recipe that is run."""

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trainer.bench import peer
from trainer.bench.suite import MadeRows, Overrides, Steps, Suite
from trainer.config.load import apply, recipe_of
from trainer.config.recipe import Recipe
from trainer.errors import Problem, RecipeError
from trainer.plan import deepspeed_json, parameters, trainable

ROWS = "rows"
"""Beside the sections of a recipe: what the rows are made of."""


@dataclass(frozen=True)
class Material:
    """What a suite makes for its rows, as a recipe names it; both stand for what is not made yet."""

    rows: str = "made-rows.jsonl"
    model: str = "made-model"


@dataclass(frozen=True)
class Row:
    """One recipe that a suite measures."""

    name: str
    sweep: str | None
    """The sweep that it belongs to."""
    size: int | None
    """Its size there."""
    content: dict[str, Any]
    """The sections of the recipe, as the suite gives them."""
    made: MadeRows | None
    peer: str | None = None
    """The trainer that runs it; None: shardtune."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """By axis of the matrix that it belongs to."""
    saves: bool = False
    """Whether its model is kept, and not its figures alone."""

    def recipe(self, suite: Suite, material: Material, output: str) -> Recipe:
        """The recipe as it is run; RecipeError holds all that is wrong with it."""
        return recipe_of(_merged(self.content, self._decided(suite, material, output)))

    def _decided(self, suite: Suite, material: Material, output: str) -> Overrides:
        steps = suite.steps.warm_up + suite.steps.measured
        return {
            **({"data": {"train": [{"path": material.rows, "format": self.made.format}]}} if self.made else {}),
            **({"model": {"name": material.model, "config": None, "tokenizer": None}} if suite.made_model else {}),
            "train": {"max_steps": steps, "epochs": 1000, "threads": suite.threads, "seed": suite.seed},
            "checkpoint": {"save": "all" if self.saves else "none"},
            "log": {"every": 1, "tensorboard": False},
            "output": output,
        }


def rows_of(suite: Suite, base: Mapping[str, Any]) -> list[Row]:
    """All rows in the order in which a round runs them; `base` are the sections of the suite's recipe."""
    rows = [_row(suite, base, name, overrides or {}) for name, overrides in suite.variants.items()]
    if suite.matrix:
        for labels in itertools.product(*(axis.items() for axis in suite.matrix.values())):
            name = ", ".join(f"{axis} {label}" for axis, (label, _) in zip(suite.matrix, labels, strict=True))
            overrides: Overrides = {}
            for _, more in labels:
                overrides = _merged(overrides, more or {})
            of_axes = dict(zip(suite.matrix, (label for label, _ in labels), strict=True))
            rows.append(replace(_row(suite, base, name, overrides), labels=of_axes))
    for sweep_name, sweep in suite.sweeps.items():
        for size in sweep.values:
            overrides = copy.deepcopy(sweep.overrides)
            for key in sweep.keys:
                wrong = apply(overrides, f"{key}={size}")
                assert wrong is None, "a number is a value of YAML"
            rows.append(_row(suite, base, f"{sweep_name} {size}", overrides, sweep_name, size))
    return rows


def of_model(suite: Suite, base: Mapping[str, Any]) -> tuple[Suite, Row]:
    """The run of one step that makes the model of all rows, as a suite and its row."""
    alone = suite.model_copy(update={"made_model": False, "steps": Steps.model_construct(warm_up=0, measured=1)})
    return alone, replace(_row(suite, base, "the model", {}), saves=True)


def _row(
    suite: Suite,
    base: Mapping[str, Any],
    name: str,
    overrides: Overrides,
    sweep: str | None = None,
    size: int | None = None,
) -> Row:
    own = {key: value for key, value in overrides.items() if key not in (ROWS, peer.KEY)}
    made = None
    if suite.rows is not None or overrides.get(ROWS):
        made = MadeRows.model_validate({**(suite.rows or MadeRows()).model_dump(), **(overrides.get(ROWS) or {})})
    return Row(name, sweep, size, _merged(base, own), made, overrides.get(peer.KEY), saves=suite.results)


def _merged(base: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with another above it, key by key; what is no mapping is replaced."""
    merged = copy.deepcopy(dict(base))
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else copy.deepcopy(value)
    return merged


def reference_of(suite: Suite, rows: Sequence[Row], row: Row) -> int | None:
    """The number of the row that another is held against; None where that is itself, or none."""
    wanted = suite.reference
    if wanted is None:
        return None
    for index, other in enumerate(rows):
        if isinstance(wanted, str) and other.name == wanted:
            return None if other is row else index
        if not isinstance(wanted, str) and row.labels and other.labels == {**row.labels, **wanted}:
            return None if other is row else index
    return None


def problems(suite: Suite, rows: Sequence[Row]) -> list[Problem]:
    """What is wrong with the recipes of rows; what all have in common is told once."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for problem in _problems(suite, row):
            found.setdefault((problem.where, problem.message), []).append(row.name)
    return [Problem(_place(where, names, rows), message) for (where, message), names in found.items()]


def _problems(suite: Suite, row: Row) -> Iterator[Problem]:
    try:
        recipe = row.recipe(suite, Material(), "-")
    except RecipeError as error:
        yield from error.problems
        return
    yield from deepspeed_json.problems(recipe)
    yield from parameters.problems(recipe.model)
    yield from trainable.problems(recipe)


def _place(where: str, names: Sequence[str], rows: Sequence[Row]) -> str:
    if len(names) == len(rows):
        return f"recipe.{where}"
    return f"{where} (row{'s' if len(names) > 1 else ''} {'; '.join(names)})"
