"""`optimizer:` how a gradient becomes a new weight."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.config.section import Section

RatedPart = Literal["head", "embeddings", "adapter", "lora_b"]
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
    layer_decay: float | None = Field(None, gt=0.0, le=1.0)
    """What the rate of a layer is of that of the one above it, from the head down; null: 1, or the strategy's own."""
    rates: dict[RatedPart, Annotated[float, Field(gt=0.0)]] = Field(default_factory=dict)
    """Factors on the rates of parts: head, embeddings, adapter, and lora_b (the B matrices, as of LoRA+)."""
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
