"""Renders chat templates (Jinja) in a sandbox, to the same text as transformers' `apply_chat_template`."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from trainer.data.example import THOUGHT

Conversation = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]
Spans = list[tuple[int, int]]
"""Where learned text begins and ends, in characters."""

FAILURES = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What a template raises where it does not like a conversation."""

_MARKER = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
# Halves of character pairs, which no row and no template holds.
_START, _END = "\ud800", "\udfff"
_BORDER = re.compile(f"[{_START}{_END}]")


_OF_A_LOOP = {"first", "last", "index", "index0"}

_FUNCTION, _DESCRIBED, _ARGUMENT = "shardtune_call", "shardtune_tool", "shardtune_argument"
_CALL = {"type": "function", "id": "shardtune", "function": {"name": _FUNCTION, "arguments": {_ARGUMENT: "x"}}}
_TRIED: Conversation = (
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": None, "tool_calls": [_CALL]},
    {"role": "tool", "content": "b", "name": _FUNCTION, "tool_call_id": "shardtune"},
    {"role": "assistant", "content": "c"},
)
_PARAMETERS = {"type": "object", "properties": {_ARGUMENT: {"type": "string"}}, "required": [_ARGUMENT]}
_TOOL = {
    "type": "function",
    "function": {"name": _DESCRIBED, "description": _DESCRIBED, "parameters": _PARAMETERS},
}


@dataclass(frozen=True, slots=True)
class _Calls:
    """What a message with tool calls looks like to a template; templates differ, and say nothing where it is wrong."""

    content: Mapping[str, str | None]
    """In place of the content that is null: no such key, null, or no text."""
    as_text: bool
    """Whether arguments are the text of a JSON object, and not the object."""

    def written(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The message in this form."""
        made = dict(message)
        if made["content"] is None:
            del made["content"]
            made |= self.content
        if self.as_text:
            made["tool_calls"] = [
                {**call, "function": {**call["function"], "arguments": _to_json(call["function"]["arguments"])}}
                for call in made["tool_calls"]
            ]
        return made


_FORMS = tuple(
    _Calls(content, as_text) for as_text in (False, True) for content in ({}, {"content": None}, {"content": ""})
)


class Rendering:
    """One template with the special tokens of one tokenizer; compiled once."""

    def __init__(self, template: str, special: Mapping[str, Any]) -> None:
        """TemplateError where it is no Jinja."""
        self.marked = _MARKER.search(template) is not None
        """Whether the template itself marks what is learned."""
        self._template = _environment().from_string(template)
        self._constant = {**special, "documents": None}
        self._made_of = template, special

    def __reduce__(self) -> tuple[type["Rendering"], tuple[str, Mapping[str, Any]]]:
        # What Jinja compiles does not pickle, and other processes turn rows into tokens too.
        return type(self), self._made_of

    def text(self, messages: Conversation, tools: Tools = (), *, prompt: bool = False) -> str:
        """The conversation written out; `prompt` opens the assistant's next turn. FAILURES where it cannot be."""
        text = self._render(messages, tools, prompt)
        return _BORDER.sub("", text) if self.marked else text

    def marks(self, messages: Conversation, tools: Tools = ()) -> tuple[str, Spans]:
        """The conversation written out, and what the template marks as learned."""
        pieces = _BORDER.split(self._render(messages, tools, prompt=False))
        borders, position = [], 0
        for piece in pieces[:-1]:
            position += len(piece)
            borders.append(position)
        return "".join(pieces), list(zip(borders[::2], borders[1::2], strict=True))

    def _render(self, messages: Conversation, tools: Tools, prompt: bool) -> str:
        if tools and not self._writes_tools:
            raise TemplateError("it leaves out the descriptions of tools")
        return self._plainly([self._named(message) for message in messages], tools, prompt)

    def _named(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """The message with the keys that the template reads."""
        if "tool_calls" in message:
            if self._calls is None:
                raise TemplateError("it writes no tool calls")
            message = self._calls.written(message)
        # Some templates call thoughts by another name.
        return {**message, "thinking": message[THOUGHT]} if THOUGHT in message else message

    def _plainly(self, messages: Conversation, tools: Tools, prompt: bool) -> str:
        return self._template.render(
            messages=messages, tools=list(tools) or None, add_generation_prompt=prompt, **self._constant
        )

    @cached_property
    def _calls(self) -> _Calls | None:
        """The first form in which a call comes out whole."""
        for form in _FORMS:
            with suppress(*FAILURES):
                text = self._plainly([*_TRIED[:1], form.written(_TRIED[1]), *_TRIED[2:]], [_TOOL], False)
                if _FUNCTION in text and _ARGUMENT in text and f"'{_ARGUMENT}'" not in text and "None" not in text:
                    return form
        return None

    @cached_property
    def _writes_tools(self) -> bool:
        return _DESCRIBED in self._plainly(_TRIED[:1], [_TOOL], True)


class _Generation(Extension):
    """`{% generation %}`: the text inside stands between two marks."""

    tags = {"generation"}  # noqa: RUF012 (declared so by jinja2)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Callable[[], str]) -> str:
        return f"{_START}{caller()}{_END}"


class _Namespace(Namespace):
    """A namespace without names that begin with an underscore, which lead out of the sandbox."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        itself, *rest = args
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(itself, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


class _Dict:
    """`dict(...)` without the attributes of the type, which lead out of the sandbox."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox; what a loop says of itself is not examined anew for each message."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is LoopContext and attribute in _OF_A_LOOP:
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)


def _environment() -> _Environment:
    """What transformers gives to a template: the same filters, functions and white space."""
    environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    # One moment for all rows, so that no turn differs from the next where the date is written.
    now = datetime.now()
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": _raise,
        "strftime_now": now.strftime,
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a chat template cannot store {name!r}: the name begins with an underscore")
