"""Finds the assistant's turns in what a template without generation markers writes, by rendering parts of it."""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

from trainer.data.example import THOUGHT
from trainer.data.rendering import FAILURES, Conversation, Rendering, Spans, Tools

_STAND_IN = re.compile(r"shardtune(\d+)text")

_Border = tuple[int, int]
"""The number of a text that stands around contents, and the characters into it."""


class Unclear(Exception):
    """What a template does with a conversation, so that it cannot be told what is learned."""

    later = False
    """Whether it does so to a turn that more follows, and not to the last one."""


class UnclearLater(Unclear):
    """What it does with a turn that more follows."""

    later = True


@dataclass(frozen=True, slots=True)
class _Outline:
    """What a template writes around the contents of a conversation, whatever these are."""

    order: tuple[int, ...]
    """The numbers of the messages, as their contents follow one another."""
    around: tuple[str, ...]
    """What stands before each content, and after the last one."""
    turns: tuple[tuple[_Border, _Border], ...]
    """Where each wanted turn begins and ends."""

    def spans(self, messages: Conversation, whole: str) -> Spans | None:
        """The turns in a rendered conversation; None where its text is not of this outline."""
        contents = [_said(messages[number]) for number in self.order]
        written = self._around(contents)
        if "".join(written) != whole:
            written = self._around(self._trimmed(contents, whole))
            if "".join(written) != whole:
                return None
        starts = [0, *accumulate(map(len, written))][::2]
        return [(starts[first] + start, starts[last] + end) for (first, start), (last, end) in self.turns]

    def _around(self, contents: Sequence[str]) -> list[str]:
        """The contents, and what stands around them, in turn."""
        return [*chain.from_iterable(zip(self.around, contents, strict=False)), self.around[-1]]

    def _trimmed(self, contents: Sequence[str], whole: str) -> list[str]:
        """The contents, without the white space around those that the template trims."""
        trimmed, position = [], len(self.around[0])
        for content, following in zip(contents, self.around[1:], strict=True):
            kept = whole.startswith(content, position) and whole.startswith(following, position + len(content))
            trimmed.append(content if kept else content.strip())
            position += len(trimmed[-1]) + len(following)
        return trimmed


class Turns:
    """The turns of one template; what it writes around contents is found once for each order of roles."""

    def __init__(self, rendering: Rendering, special: Collection[str]) -> None:
        """`special` are all tokens that may end a turn."""
        self._rendering = rendering
        self._special = tuple(special)
        self._tokens = re.compile(
            "|".join(re.escape(token) for token in sorted(special, key=len, reverse=True)) or "(?!)"
        )
        self._longest = max(map(len, special), default=0)
        self._outlines: dict[tuple[tuple[str, ...], bool], _Outline | Unclear] = {}
        self._splits: dict[tuple[str, bool, bool, str, str], tuple[int, int]] = {}

    def check(self, messages: Conversation, tools: Tools) -> None:
        """Unclear where the template leaves out a message."""
        self._outline(messages, tools, wanted=())

    def spans(self, messages: Conversation, tools: Tools, whole: str, wanted: Sequence[int]) -> Spans:
        """Where the messages of these numbers stand in `whole`: from where a prompt would end to the end of the turn.

        `wanted` follows from the roles. Unclear where the template leaves out a message, or writes a turn in such a way
        that no prompt leads to it.
        """
        spans = self._outline(messages, tools, wanted).spans(messages, whole)
        if spans is None:
            spans = [self._alone(messages, tools, whole, number) for number in wanted]
        for number, (start, end) in zip(wanted, spans, strict=True):
            if messages[number].get(THOUGHT, "").strip() not in whole[start:end]:
                kind = UnclearLater if number < len(messages) - 1 else Unclear
                raise kind(f"leaves out the thoughts of messages.{number}")
        return spans

    def _outline(self, messages: Conversation, tools: Tools, wanted: Sequence[int]) -> _Outline:
        """The outline of a conversation; kept where it depends on the roles alone."""
        if tools or any(len(message) > 2 or message["content"] is None for message in messages):
            return self._find_outline(messages, tools, wanted)
        key = (tuple(message["role"] for message in messages), bool(wanted))
        if key not in self._outlines:
            try:
                self._outlines[key] = self._find_outline(messages, tools, wanted)
            except Unclear as unclear:
                self._outlines[key] = unclear
        outline = self._outlines[key]
        if isinstance(outline, Unclear):
            raise type(outline)(str(outline))
        return outline

    def _find_outline(self, messages: Conversation, tools: Tools, wanted: Sequence[int]) -> _Outline:
        """The conversation is rendered with a stand-in for each content."""
        named = [_with_stand_in(message, number) for number, message in enumerate(messages)]
        whole = self._rendering.text(named, tools)
        found = list(_STAND_IN.finditer(whole))
        order = tuple(int(match[1]) for match in found)
        last = {number: place for place, number in enumerate(order)}
        first = {number: place for place, number in reversed([*enumerate(order)])}
        for number, message in enumerate(named):
            if number not in last:
                raise Unclear(f"leaves out messages.{number}, which is of the role {message['role']}")
        starts = [0, *(match.end() for match in found)]
        ends = [*(match.start() for match in found), len(whole)]
        around = tuple(whole[start:end] for start, end in zip(starts, ends, strict=True))
        turns: list[tuple[_Border, _Border]] = []
        for number in wanted:
            before, after = around[first[number]], around[last[number] + 1]
            previous = _stand_in(order[first[number] - 1]) if first[number] else ""
            # Turns between the same texts are split alike: long conversations would take the square of their length.
            key = (named[number - 1]["role"] if number else "", previous == "", bool(tools), before, after)
            if key not in self._splits:
                self._splits[key] = self._split(named, tools, number, (previous, before, after))
            start, end = self._splits[key]
            turns.append(((first[number], start), (last[number] + 1, end)))
        return _Outline(order, around, tuple(turns))

    def _alone(self, messages: Conversation, tools: Tools, whole: str, number: int) -> tuple[int, int]:
        """One turn of a conversation that the template treats by what it says, such as by the thoughts in it."""
        with suppress(Unclear):
            return self._added(messages, tools, whole, number)
        named = [*messages[:number], _with_stand_in(messages[number], number), *messages[number + 1 :]]
        outline = self._rendering.text(named, tools)
        before, after = outline.partition(_stand_in(number))[0], outline.rpartition(_stand_in(number))[2]
        start, end = self._split(named, tools, number, ("", before, after))
        end += len(whole) - len(after)
        fits = len(before) + len(after) <= len(whole) and whole.startswith(before) and whole.endswith(after)
        if not fits or _said(messages[number]).strip() not in whole[start:end]:
            raise UnclearLater(f"leaves out part of messages.{number} when more follows")
        return start, end

    def _split(self, named: Conversation, tools: Tools, number: int, around: tuple[str, str, str]) -> tuple[int, int]:
        """How much of the text before a content is the prompt for it, and how much of the text after it is its turn's.

        `around` is the stand-in before that text, and the two texts.
        """
        previous, before, after = around
        asked = self._tail(named[:number], tools, prompt=True) if number else None
        if asked is None and before.endswith(self._opening()):
            # Nothing that the template could write stands before it.
            asked = (previous, before)
        last = self._tail(named[: number + 1], tools, prompt=False)
        shared = self._shared(last[1], after) if last is not None and last[0] == _stand_in(number) else None
        if asked is None or asked[0] != previous or not before.startswith(asked[1]) or shared is None:
            raise UnclearLater(f"writes messages.{number} differently when more follows")
        return len(asked[1]), shared

    def _tail(self, named: Conversation, tools: Tools, *, prompt: bool) -> tuple[str, str] | None:
        """The last stand-in of a rendered beginning (empty where none stands there), and what follows it.

        None where the template does not write such a beginning.
        """
        try:
            text = self._rendering.text(named, tools, prompt=prompt)
        except FAILURES:
            return None
        found = list(_STAND_IN.finditer(text))
        return (found[-1][0], text[found[-1].end() :]) if found else ("", text)

    def _added(self, messages: Conversation, tools: Tools, whole: str, number: int) -> tuple[int, int]:
        """What a turn adds to the prompt before it."""
        try:
            before = self._rendering.text(messages[:number], tools, prompt=True)
            after = self._rendering.text(messages[: number + 1], tools)
        except FAILURES as error:
            raise Unclear(f"does not write the prompt of messages.{number}: {error}") from None
        shared = self._shared(after, whole)
        if not after.startswith(before) or shared is None or shared <= len(before):
            raise UnclearLater(f"writes messages.{number} differently when more follows")
        return len(before), shared

    def _opening(self) -> str:
        """What the template adds to a question to ask for an answer."""
        question = [{"role": "user", "content": _stand_in(0)}]
        asked, alone = self._rendering.text(question, prompt=True), self._rendering.text(question)
        return asked[self._alike(asked, alone) :]

    def _shared(self, last: str, whole: str) -> int | None:
        """How much of a text that stands last is written when more follows: all, or all but tokens after its end.

        None where other things differ.
        """
        if whole.startswith(last):
            return len(last)
        alike = self._alike(last, whole)
        lost = self._tokens.sub("", last[alike:])
        return None if lost.strip() or not last[:alike].rstrip().endswith(self._special) else alike

    def _alike(self, one: str, other: str) -> int:
        """Characters that two texts begin with alike, where no token is halved."""
        pairs = enumerate(zip(one, other, strict=False))
        alike = next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
        for text in (one, other):
            for token in self._tokens.finditer(text, max(0, alike - self._longest)):
                if token.start() >= alike:
                    break
                if token.end() > alike:
                    alike = token.start()
        return alike


def _said(message: Mapping[str, Any]) -> str:
    """What a stand-in takes the place of: the content of a message, or the name that it calls where it says nothing."""
    said: str = message["content"] or ""
    if not said and "tool_calls" in message:
        said = message["tool_calls"][0]["function"]["name"]
    return said


def _with_stand_in(message: Mapping[str, Any], number: int) -> dict[str, Any]:
    if message["content"] or "tool_calls" not in message:
        return {**message, "content": _stand_in(number)}
    call, *others = message["tool_calls"]
    named = {**call, "function": {**call["function"], "name": _stand_in(number)}}
    return {**message, "tool_calls": [named, *others]}


def _stand_in(number: int) -> str:
    return f"shardtune{number}text"
