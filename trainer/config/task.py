"""`task:` what is learned."""

from typing import Literal

from trainer.config.section import Section


class Task(Section):
    """The objective, its head and its loss."""

    kind: Literal["causal_lm"] = "causal_lm"
    """causal_lm: the next token, at the positions that the format marks as learned."""
