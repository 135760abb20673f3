"""`data:` the rows, and what the model sees of them."""

from typing import Literal

from pydantic import Field

from trainer.config.section import Section

Format = Literal["completion", "instruction", "chat", "text"]


class Source(Section):
    """One file of rows and the format of its rows."""

    path: str
    """A JSONL or CSV file, or `builtin:stdlib`: the documented functions of Python's standard library."""
    format: Format
    """completion {prompt, completion}; instruction {instruction, input, output}; chat {messages}; text {text}."""
    fields: dict[str, str] = Field(default_factory=dict)
    """The file's own names: format field -> column, such as {instruction: question, output: answer}."""


class HeldOut(Section):
    """Validation rows taken out of the training rows, by the seed."""

    fraction: float = Field(0.05, gt=0.0, lt=1.0)
    """Share of the training rows."""


class Data(Section):
    """Where the rows come from, and how they become rows of tokens."""

    train: tuple[Source, ...] = Field(min_length=1)
    """The training rows: all rows of all sources."""
    validation: HeldOut | tuple[Source, ...] | None = Field(default_factory=HeldOut)
    """A share held out, sources of their own, or null for none."""
    max_length: int = Field(2048, ge=2)
    """Tokens of the longest example."""
    too_long: Literal["cut", "drop", "error"] = "cut"
    """What happens to a longer example: its end is cut, it is left out, or the run is refused."""
    packing: bool = True
    """Lay the examples of a step end to end without padding; attention stays inside each example."""
    shuffle: bool = True
    """A new seeded order for each epoch; false keeps the order of the files."""
    template: Literal["auto", "tokenizer", "chatml", "plain"] = "auto"
    """How chat and instruction rows are written out: the tokenizer's own template, or a built-in one; auto: the
    tokenizer's where it has one, else plain."""
