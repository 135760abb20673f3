"""Writes conversations out with a chat template, and finds what the model learns in them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trainer.data.templates import PLAIN
from trainer.errors import Problem, RecipeError

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    from trainer.data.rendering import Conversation, Spans, Tools

Learn = Literal["assistant", "last_assistant", "all"]


@dataclass(frozen=True, slots=True)
class Written:
    """A conversation as text."""

    text: str
    learned: "Spans"
    """Where learned text begins and ends, in characters and in order."""


class Writer:
    """One chat template with the special tokens of one tokenizer."""

    def __init__(
        self,
        template: str,
        tokenizer: "PreTrainedTokenizerBase",
        learn: Learn = "assistant",
        *,
        images: bool = False,
    ) -> None:
        """RecipeError where the template is no Jinja, or has to write `images` and does not."""
        # Whoever only counts rows needs no jinja2.
        from jinja2 import TemplateSyntaxError

        from trainer.data.parts import PartsRendering
        from trainer.data.rendering import Rendering
        from trainer.data.turns import Turns

        self.template, self.learn, self.images = template, learn, images
        self.special = dict(tokenizer.special_tokens_map)
        try:
            self._rendering = (PartsRendering if images else Rendering)(template, self.special)
        except TemplateSyntaxError as error:
            message = f"the tokenizer's chat template is wrong at its line {error.lineno}: {error}; set it to plain"
            raise RecipeError([Problem("data.template", message)]) from error
        if isinstance(self._rendering, PartsRendering) and not self._rendering.writes_images():
            message = "writes no images, which image_text rows have; name the tokenizer of a model that sees them"
            raise RecipeError([Problem("model.tokenizer", f"its chat template {message}")])
        special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._turns = Turns(self._rendering, special)

    def write(self, messages: "Conversation", tools: "Tools" = ()) -> Written | str:
        """The conversation and what is learned in it; text that says what is wrong where it cannot be written."""
        from trainer.data.rendering import FAILURES
        from trainer.data.turns import Unclear

        try:
            return self._write(messages, tools)
        except Unclear as unclear:
            last = "; data.learn: last_assistant learns the last turn alone" if unclear.later else ""
            wrong = f"the chat template {unclear}{last}"
        except FAILURES as error:
            wrong = f"the chat template cannot write this conversation: {str(error) or type(error).__name__}"
        tooled = bool(tools) or self.images or any("tool_calls" in message for message in messages)
        can = "" if tooled or PLAIN in self.template else "; data.template: plain writes any conversation without tools"
        return wrong + can

    def _write(self, messages: "Conversation", tools: "Tools") -> Written:
        turns = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        if self.learn == "last_assistant":
            turns = turns[-1:]
        if self._rendering.marked or self.learn == "all":
            self._turns.check(messages, tools)
        if self.learn == "all":
            text = self._rendering.text(messages, tools)
            return Written(text, [(0, len(text))])
        if not self._rendering.marked:
            text = self._rendering.text(messages, tools)
            return Written(text, self._turns.spans(messages, tools, text, turns))
        text, spans = self._rendering.marks(messages, tools)
        if self.learn == "last_assistant":
            _, earlier = self._rendering.marks(messages[: turns[0]], tools) if turns and turns[0] else ("", [])
            spans = spans[len(earlier) :]
        return Written(text, spans)
