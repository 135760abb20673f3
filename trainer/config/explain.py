"""What pydantic found, where it stands in the user's file, and in words that say the way out."""

import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from trainer.config import adapter, strategy, task
from trainer.config.recipe import Recipe
from trainer.config.yaml_file import Path_
from trainer.errors import did_you_mean

Root = type[BaseModel]
"""What a file describes: a recipe, or a suite of them."""


def truths_for_numbers(place: Any, root: Root = Recipe, path: Path_ = ()) -> Iterator[Path_]:
    """Where true or false stands for a number; pydantic would read `every: yes` as 1."""
    if isinstance(place, bool):
        options = _options(_annotation_at(root, path))
        if bool not in options and (int in options or float in options):
            yield path
    elif isinstance(place, dict | list):
        for part, inner in place.items() if isinstance(place, dict) else enumerate(place):
            yield from truths_for_numbers(inner, root, (*path, part))


def explain(content: dict[str, Any], detail: Any, root: Root = Recipe) -> tuple[Path_, str]:
    """Where one of pydantic's findings stands in the user's file, and what to say of it.

    `root` is what the file describes.
    """
    path, choices = _in_file(content, detail["loc"])
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind in ("extra_forbidden", "invalid_key"):
        path = (*path[:-1], str(path[-1]))
        return path, _of_another_kind(content, path, root) or "no such key" + _suggested(root, path)
    if kind == "union_tag_invalid":
        kinds = [kind.strip(" '") for kind in context["expected_tags"].split(",")]
        return (*path, "kind"), f"{_shown(value['kind'])} is not one of {', '.join(kinds)}" + _near(
            str(value["kind"]), kinds
        )
    if kind == "missing" and not isinstance(detail["loc"][-1], int):
        return path, "is needed and not there"
    if kind in ("missing", "too_short", "too_long"):
        takes = (
            len(typing.get_args(_annotation_at(root, path)))
            if kind != "too_short"
            else f"at least {context['min_length']}"
        )
        return path, f"holds {len(value)} item{'s' if len(value) != 1 else ''}; it takes {takes}"
    shown, is_key = _shown(value), detail["loc"][-1] == "[key]"
    if kind == "string_pattern_mismatch":
        return path, f"{shown} is not {_pattern_of(_annotation_at(root, path[:-1] if is_key else path), is_key)}"
    if is_key and kind != "literal_error":
        return path, f"the key {shown} is not text; put it in quotes"
    if choices and len(_options(_annotation_at(root, path))) > 1:
        return path, f"{shown} does not fit; it takes {_describe(root, path)}"
    if kind == "literal_error":
        names = [str(word) for word in context["expected"].replace("'", "").replace(" or ", ", ").split(", ")]
        if len(names) == 1:
            return path, f"{shown} is not known; it takes {names[0]}"
        return path, f"{shown} is not one of {', '.join(names)}" + _near(str(value), names)
    if kind == "string_type" and not isinstance(value, dict | list):
        return path, f"{shown} is not text; put it in quotes"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        known = ", ".join(sorted(_keys_at(root, path)))
        return path, f"{shown} is not a mapping of keys" + (f"; known: {known}" if known else "")
    message = _MESSAGES.get(kind) or f": {detail['msg'][0].lower()}{detail['msg'][1:]}"
    return path, shown + message.format(**context)


_DEFAULTS = {"adapter": adapter.DEFAULT, "strategy": strategy.DEFAULT, "task": task.DEFAULT}
"""Of the sections whose keys depend on their kind."""


def _of_another_kind(content: dict[str, Any], path: Path_, root: Root) -> str | None:
    """What to say of a key that another kind of a task, an adapter or a strategy has."""
    section = str(path[0])
    if root is not Recipe or section not in _DEFAULTS or len(path) != 2 or path[-1] not in _keys_at(root, path[:-1]):
        return None
    return f"means nothing with {section}.kind: {content[section].get('kind', _DEFAULTS[section])}; leave it out"


def _shown(value: Any) -> str:
    """A value as YAML would write it; of a mapping or a list only that it is one."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of so many digits"
    return repr(value) if isinstance(value, str) else str(value)


def _suggested(root: Root, path: Path_) -> str:
    """The whole key that the user may have meant, or the keys that are known there."""
    stem = "".join(f"{part}." for part in path[:-1])
    return did_you_mean(str(path[-1]), _keys_at(root, path[:-1])).replace("did you mean ", f"did you mean {stem}")


def _near(word: str, names: list[str]) -> str:
    suggestion = did_you_mean(word, names)
    return suggestion if "did you mean" in suggestion else ""


_MESSAGES = {
    "greater_than": " is not greater than {gt}",
    "greater_than_equal": " is less than {ge}",
    "less_than": " is not less than {lt}",
    "less_than_equal": " is greater than {le}",
    "finite_number": " is not a finite number",
    "float_type": " is not a number",
    "float_parsing": " is not a number",
    "int_type": " is not a whole number",
    "int_parsing": " is not a whole number",
    "int_parsing_size": " is not a whole number",
    "int_from_float": " is not a whole number",
    "bool_type": " is not true or false",
    "bool_parsing": " is not true or false",
    "string_type": " is not text",
    "tuple_type": " is not a list; start each item with `- `",
}
"""What pydantic finds, in our words; the value stands before."""


def _in_file(content: Any, location: Sequence[str | int]) -> tuple[Path_, bool]:
    """Pydantic's location without the names of union members; and whether it went through a union.

    The last part of a missing or unknown key does not have to be in the file, nor does a union's member name.
    """
    path: list[str | int] = []
    place, union = content, False
    for index, part in enumerate(location):
        here = isinstance(place, dict) and part in place
        item = isinstance(place, list | tuple) and isinstance(part, int) and part < len(place)
        if here or item:
            place = place[part]
            path.append(part)
        elif index == len(location) - 1 and isinstance(place, dict) and not _is_member(str(part)):
            path.append(part)
        else:
            union = True
    return tuple(path), union


def _is_member(part: str) -> bool:
    """Whether a location part is pydantic's name of a union member, such as `literal['auto']` or `HeldOut`."""
    return "[" in part or part in {"str", "int", "float", "bool", "HeldOut", "NewTokenizer"}


def _annotation_at(root: Root, path: Path_) -> Any:
    """The type at a path below a root; None where no key is known."""
    here: Any = root
    for part in path:
        for option in _options(here):
            if isinstance(part, int) and typing.get_origin(option) is tuple:
                here = typing.get_args(option)[0]
                break
            if typing.get_origin(option) is dict:
                here = typing.get_args(option)[1]
                break
            if isinstance(option, type) and issubclass(option, BaseModel):
                fields = {field.alias or name: field for name, field in option.model_fields.items()}
                if part in fields:
                    field = fields[str(part)]
                    here = typing.Annotated[field.annotation, field] if field.description else field.annotation
                    break
        else:
            return None
    return here


def _options(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself; without the bounds that stand beside it."""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _pattern_of(annotation: Any, is_key: bool) -> str:
    """What text of a pattern has to be, in the words that stand beside the pattern."""
    for option in (annotation, *_options(annotation)):
        arguments = typing.get_args(option)
        # The items of a list, the keys or the values of a mapping, or the text itself.
        inner = {tuple: 0, dict: 0 if is_key else 1}.get(typing.get_origin(option))
        words = _described(option if inner is None else arguments[inner])
        if words:
            return words
    return "as it should be"


def _described(annotation: Any) -> str | None:
    """The words that stand beside a bounded type."""
    found = (getattr(one, "description", None) for one in getattr(annotation, "__metadata__", ()))
    return next((words for words in found if words), None)


def _keys_at(root: Root, path: Path_) -> list[str]:
    """The keys that the mapping at a path may hold."""
    return [
        field.alias or name
        for option in _options(_annotation_at(root, path))
        if isinstance(option, type) and issubclass(option, BaseModel)
        for name, field in option.model_fields.items()
    ]


def _describe(root: Root, path: Path_) -> str:
    """What a key of several types takes, in words."""
    words = []
    for option in _options(_annotation_at(root, path)):
        if typing.get_origin(option) is typing.Literal:
            words += [str(choice) for choice in typing.get_args(option)]
        elif isinstance(option, type) and issubclass(option, BaseModel):
            words.append(
                "{" + ", ".join(f"{field.alias or name}: ..." for name, field in option.model_fields.items()) + "}"
            )
        elif typing.get_origin(option) is tuple:
            words.append("a list")
        elif typing.get_origin(option) is typing.Annotated:
            words.append(_described(option) or "text")
        else:
            words.append(
                {str: "text", int: "a whole number", float: "a number", type(None): "null"}.get(option, "a mapping")
            )
    return ", ".join(words[:-1]) + " or " + words[-1] if len(words) > 1 else words[0]
