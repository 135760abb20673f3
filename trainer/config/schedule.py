"""`schedule:` the learning rate over the run."""

from typing import Literal

from pydantic import Field

from trainer.config.section import Section


class Schedule(Section):
    """The learning rate as a function of the optimizer step."""

    kind: Literal["linear", "cosine", "constant"] = "linear"
    """What follows the warm-up: a line to zero, half a cosine to zero, or no change."""
    warmup: float = Field(0.03, ge=0.0)
    """Below 1: the fraction of all optimizer steps that rise from zero; 1 and above: that many steps."""
