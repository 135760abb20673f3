"""From a YAML file and `section.key=value` arguments to a Recipe, or to all that is wrong with them."""

import copy
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from trainer.config.explain import explain, truths_for_numbers
from trainer.config.recipe import Recipe
from trainer.config.rules import RULES, Rule, problems_between_keys
from trainer.config.yaml_file import Path_, parse_value, read, write_value
from trainer.errors import Problem, RecipeError

Check = Callable[[Recipe], Iterable[Problem]]
Described = TypeVar("Described", bound=BaseModel)


def load(
    path: Path, overrides: Sequence[str] = (), checks: Sequence[Check] = (), rules: Sequence[Rule] = RULES
) -> Recipe:
    """The recipe in `path` with `overrides` applied; RecipeError holds every problem found.

    `checks` are rules that need more than the recipe, from floors above this one.
    """
    document = read(path)
    content = copy.deepcopy(document.content)
    problems = [problem for override in overrides if (problem := apply(content, override))]
    document = document.without_lines([override.partition("=")[0] for override in overrides])
    recipe, wrong = validate(content, Recipe)
    problems += [Problem(document.where(at), message) for at, message in wrong]
    sound = recipe or _without(content, [at for at, _ in wrong])
    if sound is not None:
        bad = {str(at[0]) for at, _ in wrong}
        found = (
            problem
            for check in (lambda recipe: problems_between_keys(recipe, rules), *checks)
            for problem in check(sound)
            if problem.where.split(".")[0] not in bad
        )
        problems += [Problem(document.where_named(problem.where), problem.message) for problem in found]
    if problems or recipe is None:
        raise RecipeError(problems)
    return recipe


def recipe_of(content: dict[str, Any]) -> Recipe:
    """The recipe that a mapping describes, for callers that have no file."""
    recipe, wrong = validate(content, Recipe)
    problems = [Problem(".".join(map(str, at)), message) for at, message in wrong]
    if recipe is not None:
        problems += problems_between_keys(recipe)
    if problems or recipe is None:
        raise RecipeError(problems)
    return recipe


def dump(recipe: Recipe, *, defaults: bool = True) -> str:
    """The recipe as YAML, defaults filled in or left out."""
    return write_value(recipe.model_dump(mode="json", by_alias=True, exclude_unset=not defaults))


def apply(content: dict[str, Any], override: str) -> Problem | None:
    """Sets one `section.key=value`; items of a list are named by their number."""
    key, separator, text = override.partition("=")
    if not separator or not all(key.split(".")):
        return Problem(override, "is not of the form section.key=value")
    try:
        value = parse_value(text)
    except (yaml.YAMLError, ValueError):
        return Problem(key, f"{text!r} is not a YAML value; put it in quotes")
    *parents, last = key.split(".")
    place: Any = content
    for part in parents:
        if isinstance(place, list) and part.isdigit() and int(part) < len(place):
            place = place[int(part)]
        elif isinstance(place, dict):
            if not isinstance(place.get(part), dict | list):
                place[part] = {}
            place = place[part]
        else:
            return Problem(key, f"{part!r} is not an item of the list; items are numbered from 0")
    if isinstance(place, list):
        if not last.isdigit() or int(last) >= len(place):
            return Problem(key, f"{last!r} is not an item of the list; items are numbered from 0")
        place[int(last)] = value
    else:
        place[last] = value
    return None


def validate(content: dict[str, Any], root: type[Described]) -> tuple[Described | None, list[tuple[Path_, str]]]:
    """What a mapping describes, and all that is wrong with it."""
    wrong: dict[Path_, str] = dict.fromkeys(truths_for_numbers(content, root), "true and false are not numbers")
    try:
        read_as = root.model_validate(content)
        return (None, list(wrong.items())) if wrong else (read_as, [])
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            path, message = explain(content, detail, root)
            wrong.setdefault(path, message)
        # Each member of a union complains; the one that looks deepest is the one that the user meant.
        inner = {path[:length] for path in wrong for length in range(len(path))}
        return None, [(path, message) for path, message in wrong.items() if path not in inner]


def _without(content: dict[str, Any], paths: list[Path_]) -> Recipe | None:
    """The recipe with its wrong sections at their defaults, so that the rules can be tried on the others."""
    placeholders = {"model": {"name": "-"}, "data": {"train": [{"path": "-", "format": "text"}]}}
    wrong = {str(path[0]) for path in paths}
    sections = {key: section for key, section in content.items() if str(key) not in wrong}
    return validate(placeholders | sections, Recipe)[0]
