"""The built-in chat templates (Jinja), and which template a recipe asks for.

`{% generation %}` marks what the model learns. Each template learns all that an assistant turn adds to the prompt.
"""

from typing import TYPE_CHECKING

from trainer.config.recipe import Recipe
from trainer.data.formats import formats_of
from trainer.errors import Problem, RecipeError

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

END_OF_TEXT = "<|endoftext|>"
START = "<|im_start|>"
END = "<|im_end|>"

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>\\n' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""Every turn between <|im_start|> and <|im_end|>."""

PLAIN = (
    "{% for message in messages %}"
    "{{ '### ' + message['role'] | capitalize + ':\\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% if not loop.last %}{{ '\\n\\n' }}{% endif %}"
    "{% else %}{{ message['content'] + '\\n\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\\n' }}{% endif %}"
)
"""Headings that any tokenizer can write; an answer ends with the tokenizer's end-of-text token."""


def writes_conversations(recipe: Recipe) -> bool:
    """Whether any rows go through a chat template."""
    return bool(formats_of(recipe.data) & {"chat", "instruction", "image_text"})


def choose(recipe: Recipe, tokenizer: "PreTrainedTokenizerBase") -> str:
    """The text of the template that `data.template` asks for; RecipeError where the tokenizer cannot write it."""
    wanted = recipe.data.template
    own = _own(tokenizer)
    if wanted == "tokenizer" and own is None:
        message = "the tokenizer has no chat template of its own; set it to plain, or to auto"
        raise RecipeError([Problem("data.template", message)])
    if wanted in ("auto", "tokenizer") and own is not None:
        return own
    if wanted == "chatml":
        missing = [token for token in (START, END) if token not in tokenizer.get_vocab()]
        if missing:
            message = (
                f"chatml needs the token {missing[0]}, which the tokenizer does not have; set it to plain, or to auto"
            )
            raise RecipeError([Problem("data.template", message)])
        return CHATML
    if tokenizer.eos_token is None:
        message = "plain needs an end-of-text token (eos_token), which the tokenizer does not have"
        raise RecipeError([Problem("data.template", message)])
    return ("{{ bos_token }}" if _begins_with_bos(tokenizer) else "") + PLAIN


def _own(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """The tokenizer's own template; the one named `default` where it has several."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    return template or None


def _begins_with_bos(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether the tokenizer itself puts a beginning-of-text token before a text."""
    tokens = tokenizer("a")["input_ids"]
    return bool(tokens) and tokenizer.bos_token_id is not None and tokens[0] == tokenizer.bos_token_id
