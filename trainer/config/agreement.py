"""Whether a run folder may go on under a changed recipe."""

from collections.abc import Iterator, Sequence
from typing import Any

from trainer.config.data import HeldOut
from trainer.config.recipe import Recipe
from trainer.errors import Problem

MUST_AGREE = (
    "model",
    "task",
    "data",
    "adapter",
    "strategy",
    "optimizer",
    "batch.global",
    "batch.global_tokens",
    "train.seed",
)
"""Sections and keys that decide what a step computes; all others may change between a start and a resume."""
BUT_FOR = ("data.workers", "data.cache")
"""Keys of these sections that decide nothing of the kind."""


def differences(before: Recipe, now: Recipe) -> tuple[list[Problem], list[str]]:
    """What forbids a resume, and what has changed and is fine, as sentences."""
    old, new = before.model_dump(mode="json", by_alias=True), now.model_dump(mode="json", by_alias=True)
    problems, allowed = [], []
    for key, was, value in _changed(old, new, ()):
        if key not in BUT_FOR and not _is_test(key, before, now) and _is_below(key, MUST_AGREE):
            problems.append(
                Problem(
                    key,
                    f"was {_said(was)} when {now.output} was begun, now is {_said(value)}; set it back, or name "
                    "another output",
                )
            )
        elif key != "output":
            allowed.append(f"{key}: {was} -> {value}")
    return problems, allowed


def _said(value: Any) -> str:
    """A value without the keys of it that are unset."""
    return repr({key: held for key, held in value.items() if held is not None} if isinstance(value, dict) else value)


def _is_below(key: str, sections: Sequence[str]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _is_test(key: str, before: Recipe, now: Recipe) -> bool:
    """Whether a key names test rows that are, and were, no training rows otherwise."""
    apart = all(
        not isinstance(recipe.data.test, HeldOut) and recipe.data.clean.leakage != "drop" for recipe in (before, now)
    )
    return apart and _is_below(key, ("data.test",))


def _changed(old: Any, new: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any, Any]]:
    """Each key that holds another value, as (dotted key, old, new)."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _changed(old.get(key), new.get(key), (*path, key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _changed(one, other, (*path, str(index)))
    elif old != new:
        yield ".".join(path), old, new
