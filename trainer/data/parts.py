"""Conversations with images as chat templates of such models read them: each content is a list of parts."""

from collections.abc import Mapping
from typing import Any

from trainer.data.images import MARK
from trainer.data.rendering import FAILURES, Conversation, Rendering, Tools

_QUESTION, _ANSWER = "shardtune question", "shardtune answer"


class PartsRendering(Rendering):
    """One template; contents are written as parts {type: text, text} and, for each MARK, {type: image}."""

    def writes_images(self) -> bool:
        """Whether an image leaves a trace in what the template writes, and the texts beside it stay."""
        with_image, without = self._tried(f"{MARK}{_QUESTION}"), self._tried(_QUESTION)
        sound = all(text.count(said) == 1 for text in (with_image, without) for said in (_QUESTION, _ANSWER))
        # A template for texts may write the list itself, as Python would show it.
        return sound and with_image != without and "'type'" not in with_image

    def _tried(self, question: str) -> str:
        """A short conversation written out; empty where it cannot be."""
        try:
            return self.text([{"role": "user", "content": question}, {"role": "assistant", "content": _ANSWER}])
        except FAILURES:
            return ""

    def _plainly(self, messages: Conversation, tools: Tools, prompt: bool) -> str:
        return super()._plainly([_in_parts(message) for message in messages], tools, prompt)


def _in_parts(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message with its content as parts."""
    content = message.get("content")
    if content is None:
        return message
    first, *others = content.split(MARK)
    parts = [{"type": "text", "text": first}] if first or not others else []
    for text in others:
        parts.append({"type": "image"})
        if text:
            parts.append({"type": "text", "text": text})
    return {**message, "content": parts}
