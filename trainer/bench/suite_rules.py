"""What the keys of a suite have to do with one another."""

from collections.abc import Iterator, Mapping
from typing import Any

from trainer.bench import peer
from trainer.bench.suite import MadeRows, Overrides, Suite
from trainer.config.load import validate
from trainer.errors import Problem, did_you_mean

SET_BY_THE_SUITE = {
    "train.max_steps": "steps",
    "train.epochs": "steps",
    "train.threads": "threads",
    "train.seed": "seed",
    "checkpoint.save": "results",
    "log.every": "steps",
    "log.tensorboard": "steps",
    "output": "--out",
}
"""Keys of a recipe that a suite decides, and by what."""


_OF_A_MADE_MODEL = ("model.name", "model.config", "model.tokenizer")


def problems(suite: Suite) -> list[Problem]:
    """All that is wrong between the keys of a suite, but for its recipes."""
    return [*_is_not_empty(suite), *_overridden(suite), *_sweeps(suite)]


def _decided(suite: Suite) -> dict[str, str]:
    """Keys that no row may set, and what decides them."""
    made = dict.fromkeys(_OF_A_MADE_MODEL, "made_model") if suite.made_model else {}
    return {**SET_BY_THE_SUITE, **made}


def _is_not_empty(suite: Suite) -> Iterator[Problem]:
    if not (suite.variants or suite.matrix or suite.sweeps):
        yield Problem("variants", "there is nothing to measure; name variants, a matrix or sweeps")
    if suite.rows is not None and suite.rows.asked >= suite.rows.words:
        yield Problem("rows.asked", f"{suite.rows.asked} of {suite.rows.words} words leave no answer; set it lower")
    for axis, labels in suite.matrix.items():
        if not labels:
            yield Problem(f"matrix.{axis}", "has no labels; give it at least one, such as {full: {}}")


def _overrides(suite: Suite) -> Iterator[tuple[str, Overrides]]:
    for name, overrides in suite.variants.items():
        yield f"variants.{name}", overrides or {}
    for axis, labels in suite.matrix.items():
        for label, overrides in labels.items():
            yield f"matrix.{axis}.{label}", overrides or {}
    for name, sweep in suite.sweeps.items():
        yield f"sweeps.{name}.with", sweep.overrides


def _overridden(suite: Suite) -> Iterator[Problem]:
    for place, overrides in _overrides(suite):
        if peer.KEY in overrides and (wrong := peer.problem(overrides[peer.KEY])):
            yield Problem(f"{place}.{peer.KEY}", wrong)
        rows = overrides.get("rows")
        if rows is not None and not isinstance(rows, dict):
            yield Problem(f"{place}.rows", f"{rows!r} is not a mapping; known: {', '.join(MadeRows.model_fields)}")
        elif rows:
            for path, message in validate(rows, MadeRows)[1]:
                yield Problem(".".join((place, "rows", *map(str, path))), message)
        for key, owner in _decided(suite).items():
            if _holds(overrides, key.split(".")):
                yield Problem(f"{place}.{key}", f"is decided by the suite's {owner}; leave it out")


def _holds(overrides: Mapping[str, Any], path: list[str]) -> bool:
    first, *rest = path
    if first not in overrides:
        return False
    return not rest or (isinstance(overrides[first], dict) and _holds(overrides[first], rest))


def _sweeps(suite: Suite) -> Iterator[Problem]:
    for name, sweep in suite.sweeps.items():
        if sorted(set(sweep.values)) != list(sweep.values) or sweep.values[0] < 1:
            yield Problem(f"sweeps.{name}.values", "must grow from 1 or more, each value once")
        for index, key in enumerate(sweep.keys):
            parents = (other for other in _decided(suite) if key == other or key.startswith(f"{other}."))
            if owner := _decided(suite).get(next(parents, "")):
                yield Problem(f"sweeps.{name}.keys.{index}", f"{key} is decided by the suite's {owner}; name another")
            section, _, rest = key.partition(".")
            if section == "rows" and rest not in MadeRows.model_fields:
                near = did_you_mean(rest, MadeRows.model_fields)
                yield Problem(f"sweeps.{name}.keys.{index}", f"{key}: made rows have no such key{near}")
