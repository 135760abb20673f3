"""`batch:` how many examples make a step."""

from typing import Any

from pydantic import Field, model_validator

from trainer.config.section import Section


class Batch(Section):
    """Examples a step, and how many of them a device holds at once."""

    micro: int = Field(4, ge=1)
    """Examples a device computes at a time."""
    global_tokens: int | None = Field(None, ge=2)
    """Tokens an optimizer step holds at most, over all devices, in place of `global`: it takes as many examples as fit;
    null: `global` counts examples."""
    # `global` is a keyword of Python: the attribute is global_, the key is global.
    global_: int | None = Field(64, ge=1, alias="global")
    """Examples an optimizer step, over all devices; null where `global_tokens` fills the step."""
    micro_tokens: int | None = Field(None, ge=2)
    """Tokens of one packed row; null: micro x max_length."""

    @model_validator(mode="before")
    @classmethod
    def _tokens_stand_alone(cls, content: Any) -> Any:
        """Who names `global_tokens` alone means no `global`, not its default."""
        if isinstance(content, dict) and content.get("global_tokens") is not None and "global" not in content:
            return {**content, "global": None}
        return content
