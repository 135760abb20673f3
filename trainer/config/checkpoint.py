"""`checkpoint:` what is saved on the way."""

from typing import Literal

from pydantic import Field

from trainer.config.section import Section


class Checkpoint(Section):
    """When the whole state is saved, and how many are kept."""

    every: int = Field(200, ge=1)
    """Optimizer steps between two checkpoints."""
    keep: int = Field(2, ge=1)
    """Checkpoints that stay; the best one stays besides."""
    save: Literal["all", "none"] = "all"
    """none: no checkpoint and no model, for runs of which only the figures are wanted; they cannot go on after a stop.
    """
    certify: bool = True
    """Whether another process loads an adapter that was saved, and has to say what the model of the run says; else its
    tensors alone are read back."""
    resume: Literal["auto", "never"] = "auto"
    """auto: go on from the last checkpoint of the output folder; never: refuse a folder that holds one."""
