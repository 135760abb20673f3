"""`optimizer:` how a gradient becomes a new weight."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.config.section import Section

Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


class Optimizer(Section):
    """The optimizer and its constants."""

    kind: Literal["adamw", "adam", "adamw_8bit"] = "adamw"
    """adamw: decoupled weight decay; adam: weight decay as part of the gradient; adamw_8bit: adamw whose moments take 8
    bits, but for those of embeddings and of weights with less than 4,096 values."""
    lr: float = Field(2.0e-4, gt=0.0)
    """The highest learning rate of the schedule."""
    weight_decay: float = Field(0.0, ge=0.0)
    """Applied to matrices only, never to norms and biases."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay of the two moments."""
    eps: float = Field(1.0e-8, gt=0.0)
    """Added to the root of the second moment."""
    master: Literal["float32", "kahan", "stochastic", "none"] = "float32"
    """What keeps updates that are too small for weights stored in fewer bits. float32: a float32 copy, 4 bytes; kahan:
    the rounding error in bfloat16, 2 bytes; stochastic: nothing, updates are rounded up or down by chance, right on
    average; none: nothing, such updates are lost. With kahan and stochastic the moments take 2 bytes each, not 4."""
    in_backward: bool = False
    """Step each weight in the backward pass as soon as its gradient is there, and let the gradient go; torch only."""
