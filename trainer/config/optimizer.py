"""`optimizer:` how a gradient becomes a new weight."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.config.section import Section

Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


class Optimizer(Section):
    """The optimizer and its constants."""

    kind: Literal["adamw", "adam"] = "adamw"
    """adamw: decoupled weight decay; adam: weight decay as part of the gradient."""
    lr: float = Field(2.0e-4, gt=0.0)
    """The highest learning rate of the schedule."""
    weight_decay: float = Field(0.0, ge=0.0)
    """Applied to matrices only, never to norms and biases."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay of the two moments."""
    eps: float = Field(1.0e-8, gt=0.0)
    """Added to the root of the second moment."""
    master: Literal["float32", "none"] = "float32"
    """The copy of weights stored in fewer bits that updates are added to; none: updates go into the stored weights."""
