"""Writes conversations out with a chat template, and finds what the model learns in them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from trainer.data.formats import Piece

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

Conversation = Sequence[Mapping[str, Any]]

Spans = list[tuple[int, int]]
"""Where learned text begins and ends, in characters."""

_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")


class _DifferentLaterError(Exception):
    """A turn is not written as it is when it stands last; holds its number."""


@dataclass(frozen=True, slots=True)
class _Seams:
    """What a template writes between turns, where that is constant."""

    ask: str
    """Between a question and its answer."""
    between: str
    """Between an answer and the next question."""
    end: str
    """After an answer that stands last; it belongs to every answer."""
    asked: str
    """After a question that stands last."""

    def spans(self, conversation: Conversation, whole: str) -> Spans | None:
        """The learned spans of a rendered conversation; None where its turns or its text are not of this form.

        Rendering once and checking the text against the seams is linear in the number of turns.
        """
        talk = conversation[1:] if conversation[0]["role"] == "system" else conversation
        roles = [message["role"] for message in talk]
        if not set(roles) <= {"user", "assistant"} or any(one == other for one, other in pairwise(roles)):
            return None
        after = {"user": self.ask, "assistant": self.between}
        last = {"user": self.asked, "assistant": self.end}
        seams = [*(after[role] for role in roles[:-1]), *(last[role] for role in roles[-1:])]
        tail = "".join(message["content"] + seam for message, seam in zip(talk, seams, strict=True))
        position = len(whole) - len(tail)
        prompted = roles[:1] == ["user"] or whole[: max(0, position)].endswith(self.ask.removeprefix(self.asked))
        if not whole.endswith(tail) or not prompted:
            return None
        spans = []
        for message, seam in zip(talk, seams, strict=True):
            if message["role"] == "assistant":
                spans.append((position, position + len(message["content"]) + len(self.end)))
            position += len(message["content"]) + len(seam)
        return spans


class Writer:
    """One chat template with the special tokens of one tokenizer."""

    def __init__(self, template: str, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.template = template
        self.special = dict(tokenizer.special_tokens_map)
        self.marked = _MARKER.search(template) is not None
        """Whether the template itself marks what is learned."""
        self._seams = None if self.marked else self._find_seams()

    def write(self, conversations: Sequence[Conversation]) -> list[list[Piece] | str]:
        """The pieces of each conversation; text that says what is wrong where the template cannot write one."""
        if not self.marked:
            return [self._by_turns(conversation) for conversation in conversations]
        try:
            return [_cut(text, spans) for text, spans in self._render_marked(conversations)]
        except _failures():
            return [self._one_marked(conversation) for conversation in conversations]

    def _one_marked(self, conversation: Conversation) -> list[Piece] | str:
        try:
            [(text, spans)] = self._render_marked([conversation])
        except _failures() as error:
            return _refused(error)
        return _cut(text, spans)

    def _by_turns(self, conversation: Conversation) -> list[Piece] | str:
        """What is learned is what each turn of the assistant adds to the prompt before it."""
        try:
            [whole] = self._render([conversation])
            spans = self._seams.spans(conversation, whole) if self._seams else None
            return _cut(whole, self._spans(conversation, whole) if spans is None else spans)
        except _DifferentLaterError as different:
            return (
                f"the chat template writes messages.{different} differently when more follows, so what is learned "
                "cannot be told; set data.template to plain or chatml, or use a template with generation markers"
            )
        except _failures() as error:
            return _refused(error)

    def _spans(self, conversation: Conversation, whole: str) -> Spans:
        """Each turn is rendered with what stands before it; time grows with the square of the number of turns."""
        turns = [index for index, message in enumerate(conversation) if message["role"] == "assistant"]
        before = self._render([conversation[:index] for index in turns], prompt=True)
        after = self._render([conversation[: index + 1] for index in turns])
        for index, start, end in zip(turns, before, after, strict=True):
            if not (end.startswith(start) and whole.startswith(end)):
                raise _DifferentLaterError(index)
        return [(len(start), len(end)) for start, end in zip(before, after, strict=True)]

    def _find_seams(self) -> "_Seams | None":
        """What the template writes between turns, tried on two questions and answers; None where it is not constant."""
        names = ["shardtune-a", "shardtune-b", "shardtune-c", "shardtune-d"]
        roles = ["user", "assistant", "user", "assistant"]
        talk = [{"role": role, "content": name} for role, name in zip(roles, names, strict=True)]
        try:
            whole, question = self._render([talk, talk[:1]])
            spans = self._spans(talk, whole)
        except _failures():
            return None
        if any(whole.count(name) != 1 for name in names) or question.count(names[0]) != 1:
            return None
        _, ask, between, _, end = re.split("|".join(names), whole)
        seams = _Seams(ask, between, end, asked=question.partition(names[0])[2])
        constant = ask.startswith(seams.asked) and between.startswith(end)
        return seams if constant and seams.spans(talk, whole) == spans else None

    def _render(self, conversations: Sequence[Conversation], *, prompt: bool = False) -> list[str]:
        from transformers.utils.chat_template_utils import render_jinja_template

        texts: list[str] = render_jinja_template(
            conversations=[list(conversation) for conversation in conversations],
            chat_template=self.template,
            add_generation_prompt=prompt,
            **self.special,
        )[0]
        return texts

    def _render_marked(self, conversations: Sequence[Conversation]) -> list[tuple[str, Spans]]:
        from transformers.utils.chat_template_utils import render_jinja_template

        texts, spans = render_jinja_template(
            conversations=[list(conversation) for conversation in conversations],
            chat_template=self.template,
            return_assistant_tokens_mask=True,
            **self.special,
        )
        return list(zip(texts, spans, strict=True))


def _failures() -> tuple[type[Exception], ...]:
    """What a template raises where it does not like a conversation."""
    from jinja2 import TemplateError

    return (TemplateError, TypeError, ValueError, LookupError, AttributeError, _DifferentLaterError)


def _refused(error: Exception) -> str:
    return f"the chat template cannot write this conversation: {error}; data.template: plain can"


def _cut(text: str, spans: Spans) -> list[Piece]:
    """The text as pieces; what lies in the spans is learned."""
    pieces, position = [], 0
    for start, end in spans:
        pieces += [Piece(text[position:start], False), Piece(text[start:end], True)]
        position = end
    return [piece for piece in (*pieces, Piece(text[position:], False)) if piece.text]
