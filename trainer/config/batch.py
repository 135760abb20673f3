"""`batch:` how many examples make a step."""

from pydantic import Field

from trainer.config.section import Section


class Batch(Section):
    """Examples a step, and how many of them a device holds at once."""

    micro: int = Field(4, ge=1)
    """Examples a device computes at a time."""
    # `global` is a keyword of Python: the attribute is global_, the key is global.
    global_: int = Field(64, ge=1, alias="global")
    """Examples an optimizer step, over all devices."""
    micro_tokens: int | None = Field(None, ge=2)
    """Tokens of one packed row; null: micro x max_length."""
