"""From a row to a conversation, whichever of the usual conventions it is written in."""

from collections.abc import Mapping
from typing import Any

from trainer.data.example import THOUGHT, Example
from trainer.data.fields import Fields, Wrong, check_plain, json_of, kind_of, names, text_of

ROLES = ("assistant", "system", "tool", "user")
OTHER_ROLES = {"gpt": "assistant", "model": "assistant", "human": "user", "observation": "tool", "function": "tool"}
"""What other conventions call them."""

ROLE, CONTENT = ("role", "from"), ("content", "value")
"""The keys of a message, by convention."""
THOUGHTS = (THOUGHT, "thinking", "reasoning")
NAMES = ("name", "tool_call_id")
"""Keys of a message that templates read besides, where they hold text."""

Message = Mapping[str, Any]


def chat(fields: Fields) -> Example:
    """`messages` or `conversations`, and the functions in `tools`."""
    row = fields.row
    column, messages = _messages(fields)
    if not messages:
        raise Wrong(f"{column} is an empty list; a conversation needs at least one message of the assistant")
    mapped = not fields.source.fields.keys().isdisjoint(("role", "content"))
    talk = tuple(
        message if not mapped and _is_plain(message) else _message(f"{column}.{index}", message, fields)
        for index, message in enumerate(messages)
    )
    if fields.answered and all(message["role"] != "assistant" for message in talk):
        raise Wrong(f"{column} holds no message of the assistant, so nothing can be learned from it")
    return Example(row.source, row.line, messages=talk, tools=_tools(fields), columns=row.values)


def _messages(fields: Fields) -> tuple[str, list[Any]]:
    """The column that holds the conversation, and its messages."""
    if "messages" in fields.source.fields:
        column, messages = fields.column("messages"), fields.value("messages")
    else:
        found = [name for name in ("messages", "conversations") if fields.row.values.get(name) is not None]
        if len(found) == 2:
            way_out = f"say which one counts: {fields.key}.fields: {{messages: {found[0]}}}"
            raise Wrong(f"has both messages and conversations; {way_out}")
        column = found[0] if found else "messages"
        messages = fields.row.values[column] if found else fields.value("messages")
    if not isinstance(messages, list):
        hint = "; CSV cannot hold a conversation, JSONL can" if fields.is_csv else ""
        raise Wrong(f"{column} is {kind_of(messages)}, not a list of {{role, content}}{hint}")
    return column, messages


def _is_plain(message: Any) -> bool:
    """Whether a message is {role, content} in ASCII, as most are: looking closer at all of them takes time."""
    if not isinstance(message, dict) or len(message) != 2 or message.get("role") not in ROLES:
        return False
    content = message.get("content")
    return isinstance(content, str) and content.isascii()


def _message(place: str, message: object, fields: Fields) -> Message:
    """A message as templates read it: role, content, and what else is there and not null."""
    if not isinstance(message, dict):
        raise Wrong(f"{place} is {kind_of(message)}, not an object {{role, content}}")
    role_key, content_key = _key(place, message, "role", ROLE, fields), _key(place, message, "content", CONTENT, fields)
    if message.get(role_key) is None:
        raise Wrong(f"{place} has no {role_key}; it has {names(message)}")
    role = OTHER_ROLES.get(message[role_key], message[role_key]) if isinstance(message[role_key], str) else None
    if role not in ROLES:
        others = (*ROLES, *OTHER_ROLES)
        raise Wrong(f"{place}.{role_key} is {message[role_key]!r}, which is none of {', '.join(others)}")
    more: dict[str, Any] = {name: text_of(f"{place}.{name}", message[name]) for name in NAMES if message.get(name)}
    thoughts = [name for name in THOUGHTS if message.get(name) is not None]
    if thoughts:
        more[THOUGHT] = text_of(f"{place}.{thoughts[0]}", message[thoughts[0]])
    if message.get("tool_calls"):
        if role != "assistant":
            raise Wrong(f"{place} has tool_calls, and its {role_key} is {role}; the assistant alone calls tools")
        more["tool_calls"] = _calls(f"{place}.tool_calls", message["tool_calls"])
    content = message.get(content_key)
    if content_key not in message and "tool_calls" not in more:
        raise Wrong(f"{place} has no {content_key}; it has {names(message)}")
    if content is not None or "tool_calls" not in more:
        content = _content(f"{place}.{content_key}", content)
    return {"role": role, "content": content, **more}


def _key(place: str, message: Mapping[str, Any], name: str, known: tuple[str, ...], fields: Fields) -> str:
    """The key of a message that holds its role or content."""
    if name in fields.source.fields:
        return fields.source.fields[name]
    found = [key for key in known if message.get(key) is not None]
    if len(found) > 1:
        way_out = f"say which one counts: {fields.key}.fields: {{{name}: {found[0]}}}"
        raise Wrong(f"{place} has both {' and '.join(found)}; {way_out}")
    return found[0] if found else next((key for key in known if key in message), known[0])


def _content(place: str, content: object) -> str:
    """Text, or a list of parts {type: text, text} put together."""
    if not isinstance(content, list):
        return text_of(place, content)
    texts = []
    for index, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text":
            found = f"of type {part.get('type')!r}" if isinstance(part, dict) else kind_of(part)
            raise Wrong(f"{place}.{index} is {found}; chat takes parts {{type: text, text}}, image_text takes images")
        texts.append(text_of(f"{place}.{index}.text", part.get("text")))
    return "".join(texts)


def _calls(place: str, calls: object) -> list[dict[str, Any]]:
    """Calls as {type, function: {name, arguments}}, the arguments as an object; the id stays where there is one."""
    if not isinstance(calls, list):
        raise Wrong(f"{place} is {kind_of(calls)}, not a list of {{function: {{name, arguments}}}}")
    made: list[dict[str, Any]] = []
    for index, call in enumerate(calls):
        here = f"{place}.{index}"
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Wrong(f"{here} names no function; a call is {{function: {{name, arguments}}}}")
        arguments = json_of(f"{here}.arguments", function.get("arguments") or {}, "an object")
        if not isinstance(arguments, dict):
            raise Wrong(f"{here}.arguments is {kind_of(arguments)}, not an object")
        identity = {"id": call["id"]} if call.get("id") is not None else {}
        made.append({"type": "function", **identity, "function": {"name": function["name"], "arguments": arguments}})
    check_plain(place, made)
    return made


def _tools(fields: Fields) -> tuple[Mapping[str, Any], ...]:
    """The descriptions of functions, a list or the JSON of one; none where the row has none."""
    if not fields.has("tools") or fields.value("tools") in (None, ""):
        return ()
    column = fields.column("tools")
    tools = json_of(column, fields.value("tools"), "a list of objects, or the JSON of one")
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise Wrong(f"{column} is {kind_of(tools)}, not a list of objects that describe functions")
    check_plain(column, tools)
    return tuple(tools)
