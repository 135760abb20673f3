"""The JSON Schema of a recipe, made from the settings themselves."""

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from trainer.config.recipe import Recipe
from trainer.config.section import Section


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) that YAML editors complete and check a recipe from."""
    made = Recipe.model_json_schema(by_alias=True)
    objects = {**made["$defs"], Recipe.__name__: made}
    for section in filter(lambda one: one.__name__ in objects, sections()):
        for name, text in descriptions(section).items():
            key = section.model_fields[name].alias or name
            objects[section.__name__]["properties"][key]["description"] = text
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "shardtune recipe"}


def sections(base: type[Section] = Section) -> Iterator[type[Section]]:
    """Every section, and what sections have in common."""
    for section in base.__subclasses__():
        yield section
        yield from sections(section)


def descriptions(section: type[Section]) -> dict[str, str]:
    """What stands below each field of a section in its source, or in that of what it has in common with others."""
    found: dict[str, str] = {}
    for one in reversed(section.mro()):
        if issubclass(one, Section):
            found |= _own(one)
    return {name: text for name, text in found.items() if name in section.model_fields}


def _own(section: type[Section]) -> dict[str, str]:
    (definition,) = ast.parse(inspect.getsource(section)).body
    assert isinstance(definition, ast.ClassDef), section
    found = {}
    for field, text in pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return found
