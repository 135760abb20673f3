"""YAML with the line of every key, so that a problem can name it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from trainer.errors import Problem, RecipeError

Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A parsed YAML file: its content, and the line at which each key or item stands."""

    content: dict[str, Any]
    lines: dict[Path_, int]
    source: str

    def where(self, path: Path_) -> str:
        """`key (file, line n)`; the key alone where the file does not hold it."""
        key = ".".join(str(part) for part in path)
        line = self.lines.get(path)
        return f"{key} ({self.source}, line {line})" if line else key

    def where_named(self, key: str) -> str:
        """The same for a dotted key."""
        return self.where(_parts(key))

    def without_lines(self, keys: Sequence[str]) -> "Document":
        """The document without the lines of what `section.key=value` arguments have replaced."""
        gone = [_parts(key) for key in keys]
        return replace(
            self,
            lines={path: line for path, line in self.lines.items() if not any(path[: len(key)] == key for key in gone)},
        )


def _parts(key: str) -> Path_:
    return tuple(int(part) if part.isdigit() else part for part in key.split("."))


class _Loader(yaml.SafeLoader):
    """YAML 1.1, but `1e-4` is a number, as it is in YAML 1.2."""


class _Dumper(yaml.SafeDumper):
    """Puts text in quotes that `_Loader` would take for a number."""

    def ignore_aliases(self, data: Any) -> bool:
        """A value that stands twice is written twice."""
        return True


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )


def parse_value(text: str) -> Any:
    """One value of a `section.key=value` argument."""
    return yaml.load(text, Loader=_Loader)


def write_value(content: Any) -> str:
    """YAML that `read` reads back."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def write_inline(value: Any) -> str:
    """One value of a `section.key=value` argument, in one line that `parse_value` reads back."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")


def read(path: Path, kind: str = "recipe", needs: str = "`model:` and `data:`") -> Document:
    """The mapping that a YAML file holds; RecipeError with file and line where it is not one.

    `kind` says what the file describes, and `needs` which keys that has at least.
    """
    source = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = sorted(str(other) for other in path.parent.glob("*.y*ml"))[:5] if path.parent.is_dir() else []
        hint = f"; here are: {', '.join(near)}" if near else "; `shardtune recipes` lists recipes to start from"
        raise RecipeError([Problem(source, f"no such file{hint}")]) from None
    except IsADirectoryError:
        raise RecipeError([Problem(source, "is a folder; name the YAML file of the recipe")]) from None
    except OSError as error:
        raise RecipeError([Problem(source, f"cannot be read: {error.strerror or error}")]) from None
    except UnicodeDecodeError as error:
        raise RecipeError([Problem(source, f"is not UTF-8 text (byte {error.start}); save it as UTF-8")]) from None
    node, content = _parse(text, source)
    if content is None:
        raise RecipeError([Problem(source, f"is empty; a {kind} needs at least {needs}")])
    if not isinstance(content, dict):
        raise RecipeError([Problem(f"{source}:1", f"is not a mapping; a {kind} starts with sections such as {needs}")])
    lines: dict[Path_, int] = {}
    wrong = [Problem(f"{source}:{line}", message) for line, message in _walk(node, (), lines, {})]
    if wrong:
        raise RecipeError(wrong)
    return Document(content, lines, source)


def _parse(text: str, source: str) -> tuple[Any, Any]:
    """The nodes with their lines, and the values."""
    try:
        return yaml.compose(text, Loader=_Loader), yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError([Problem(f"{source}:{line}", f"is not YAML: {error.problem}")]) from None
    except RecursionError:
        raise RecipeError([Problem(source, "is not YAML that can be read: it is nested too deep")]) from None
    # ValueError: a date or a number that YAML knows by its form and Python cannot hold.
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError([Problem(source, f"is not YAML: {str(error).splitlines()[0]}")]) from None


def _walk(node: Any, path: Path_, lines: dict[Path_, int], left: dict[int, bool]) -> Iterator[tuple[int, str]]:
    """Fills `lines`; yields line and message for each key that a mapping holds twice, and each alias inside itself.

    `left` says of each node that was entered whether it was left: what an alias repeats is not walked again.
    """
    if id(node) in left:
        if not left[id(node)]:
            yield node.start_mark.line + 1, f"the anchor of {'.'.join(map(str, path))} holds itself; write it out"
        return
    if isinstance(node, yaml.ScalarNode):
        return
    left[id(node)] = False
    seen = set()
    for index, item in enumerate(node.value):
        key_node, value_node = item if isinstance(node, yaml.MappingNode) else (item, item)
        key = str(key_node.value) if isinstance(node, yaml.MappingNode) else index
        if key in seen:
            yield (
                key_node.start_mark.line + 1,
                f"the key {'.'.join(map(str, (*path, key)))} stands there twice; keep one",
            )
        seen.add(key)
        lines[*path, key] = key_node.start_mark.line + 1
        yield from _walk(value_node, (*path, key), lines, left)
    left[id(node)] = True
