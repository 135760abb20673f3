"""Values become words of a shell, scalars of YAML or options of Slurm: whatever they hold, they stay data."""

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

import yaml

_PLAIN_OPTION = re.compile(r"[A-Za-z0-9_./:,=%@+-]+")
_LINE_ENDS = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")


class Plain(str):
    """Text that stands in the rendered file as it is: it is part of the template, or quoted already."""

    __slots__ = ()


class Unquotable(ValueError):
    """A value that its place cannot hold, in words."""


def for_shell(value: Any) -> str:
    """A value as one word of a POSIX shell, and a list as a word for each item."""
    if isinstance(value, Plain):
        return str(value)
    if isinstance(value, list | tuple):
        return " ".join(for_shell(item) for item in value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Unquotable(f"{value!r} is no word of a shell")
    return shlex.quote(_encodable(str(value)))


def for_yaml(value: Any) -> str:
    """A value as YAML in one line, text always in double quotes."""
    if isinstance(value, Plain):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{for_yaml(str(key))}: {for_yaml(held)}" for key, held in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(for_yaml(item) for item in value) + "]"
    if isinstance(value, str):
        text = yaml.safe_dump(_encodable(value), default_style='"', width=float("inf"), allow_unicode=True)
        return text.removesuffix("\n")
    return json.dumps(value)


def as_option(value: Any) -> Plain:
    """A value of a line `#SBATCH --name=value`, which Slurm reads by itself: text that ends a line is refused."""
    text = _encodable(str(value))
    if _LINE_ENDS.search(text):
        raise Unquotable(f"{text!r} ends a line, which an option of Slurm cannot")
    if _PLAIN_OPTION.fullmatch(text):
        return Plain(text)
    return Plain('"' + re.sub(r'(["\\])', r"\\\1", text) + '"')


def as_block(text: str, indent: int) -> Plain:
    """Text of several lines as a readable block of YAML, where its characters allow that."""
    if not text[:1].isalnum() or not all(line.isprintable() for line in text.split("\n")):
        return Plain(for_yaml(text))
    block = yaml.safe_dump(_encodable(text), default_style="|", width=float("inf"), allow_unicode=True)
    first, *lines = block.removesuffix("\n").split("\n")
    return Plain("\n".join([first, *(" " * (indent - 2) + line if line else "" for line in lines)]))


def _encodable(text: str) -> str:
    if "\0" in text:
        raise Unquotable(f"{text!r} holds a zero byte, which no program can be given")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Unquotable(f"{text!r} is not Unicode text") from None
    return text
