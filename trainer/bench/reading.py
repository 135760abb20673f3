"""From the name or the file of a suite to the suite and its rows, or to all that is wrong with them."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import assets
from trainer.bench import row as rows
from trainer.bench import suite_rules
from trainer.bench.row import Row
from trainer.bench.suite import Suite
from trainer.config import yaml_file
from trainer.config.load import apply, validate
from trainer.errors import Problem, RecipeError, SuiteError, did_you_mean


@dataclass(frozen=True)
class Read:
    """A suite as it was read."""

    suite: Suite
    recipe: dict[str, Any]
    """The sections that all rows begin with."""
    rows: tuple[Row, ...]


def packaged() -> dict[str, Path]:
    """The suites that ship with shardtune: name -> file, sorted by name."""
    return {path.stem: path for path in sorted(assets.folder("benchmarks/suites").glob("*.yaml"))}


def find(name: str) -> Path:
    """The file of a suite that is named by its path or, where it ships with shardtune, by its name."""
    known = packaged()
    if name in known and not Path(name).is_file():
        return known[name]
    if not Path(name).exists() and "/" not in name and not name.endswith((".yaml", ".yml")):
        raise SuiteError([Problem(name, f"no such suite{did_you_mean(name, known)}")])
    return Path(name)


def read(path: Path, overrides: Sequence[str] = ()) -> Read:
    """The suite of a file with `key=value` settings above it; SuiteError holds all that is wrong."""
    try:
        document = yaml_file.read(path, "suite", "`name:` and `recipe:`")
        content = copy.deepcopy(document.content)
        wrong = [problem for override in overrides if (problem := apply(content, override))]
        document = document.without_lines([override.partition("=")[0] for override in overrides])
        suite, mistakes = validate(content, Suite)
        wrong += [Problem(document.where(at), message) for at, message in mistakes]
        if suite is not None:
            wrong += [Problem(document.where_named(one.where), one.message) for one in suite_rules.problems(suite)]
        if wrong or suite is None:
            raise SuiteError(wrong)
        recipe = _recipe(suite, path, document.where_named("recipe"))
    except RecipeError as error:
        raise SuiteError(error.problems) from None
    made = rows.rows_of(suite, recipe)
    wrong = [Problem(document.where_named(one.where), one.message) for one in _names(suite, made)]
    if wrong := wrong or rows.problems(suite, made):
        raise SuiteError(wrong)
    return Read(suite, recipe, tuple(made))


def _recipe(suite: Suite, path: Path, where: str) -> dict[str, Any]:
    """The sections of the suite's recipe, which is named at a place of its file."""
    if isinstance(suite.recipe, dict):
        return suite.recipe
    beside, gallery = path.parent / suite.recipe, assets.recipes()
    file = beside if beside.is_file() else gallery.get(suite.recipe, Path(suite.recipe))
    if not file.is_file():
        message = f"{suite.recipe!r} is neither a file beside the suite nor a recipe that ships with shardtune"
        raise SuiteError([Problem(where, f"{message}{did_you_mean(suite.recipe, gallery)}")])
    return yaml_file.read(file).content


def _names(suite: Suite, made: Sequence[Row]) -> list[Problem]:
    names = [row.name for row in made]
    twice = sorted({name for name in names if names.count(name) > 1})
    problems = [Problem("variants", f"{name}: another row has this name too; call it otherwise") for name in twice]
    for axis, label in suite.reference.items() if isinstance(suite.reference, dict) else ():
        labels = suite.matrix.get(axis)
        if labels is None:
            problems.append(Problem(f"reference.{axis}", f"is no axis of the matrix{did_you_mean(axis, suite.matrix)}"))
        elif label not in labels:
            problems.append(Problem(f"reference.{axis}", f"{label!r} is no label of it{did_you_mean(label, labels)}"))
    if isinstance(suite.reference, str) and suite.reference not in names:
        problems.append(
            Problem("reference", f"{suite.reference!r} is no row of it{did_you_mean(suite.reference, names)}")
        )
    return problems
