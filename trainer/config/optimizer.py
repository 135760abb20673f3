"""`optimizer:` how a gradient becomes a new weight."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.config.section import Section

RatedPart = Literal["head", "embeddings", "adapter", "lora_b"]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


class GaLore(Section):
    """What of a matrix's gradient galore looks at."""

    rank: int = Field(128, ge=1)
    """Singular directions; matrices whose smaller side has no more are stepped by adamw."""
    every: int = Field(200, ge=1)
    """Steps after which the directions are found anew."""
    scale: float = Field(0.25, gt=0.0)
    """On the steps that come back."""


Kind = Literal["adamw", "adam", "adamw_8bit", "adafactor", "lion", "sgd", "muon", "galore"]


class Optimizer(Section):
    """The optimizer and its constants."""

    kind: Kind = "adamw"
    """adamw: decoupled weight decay; adam: weight decay as part of the gradient; adamw_8bit: adamw whose moments take 8
    bits, but for those of embeddings and of weights with less than 4,096 values; adafactor: rows and columns share
    their second moments; lion: the sign of one moment, at a tenth of adamw's rate; sgd: with momentum; muon: matrices
    inside layers take orthogonal steps as large as adamw's; galore: adamw on the largest directions of gradients of
    matrices inside layers. The last two step all else by adamw."""
    lr: float = Field(2.0e-4, gt=0.0)
    """The highest learning rate of the schedule."""
    weight_decay: float = Field(0.0, ge=0.0)
    """Applied to matrices only, never to norms and biases."""
    layer_decay: float | None = Field(None, gt=0.0, le=1.0)
    """What the rate of a layer is of that of the one above it, from the head down; null: 1, or the strategy's own."""
    rates: dict[RatedPart, Annotated[float, Field(gt=0.0)]] = Field(default_factory=dict)
    """Factors on the rates of parts: head, embeddings, adapter, and lora_b (the B matrices, as of LoRA+)."""
    betas: tuple[Decay, Decay] | None = None
    """Decay of the two moments; null: 0.9 and 0.999, with lion 0.9 and 0.99."""
    eps: float = Field(1.0e-8, gt=0.0)
    """Added to the root of the second moment."""
    master: Literal["float32", "kahan", "stochastic", "none"] = "float32"
    """What keeps updates that are too small for weights stored in fewer bits. float32: a float32 copy, 4 bytes; kahan:
    the rounding error in bfloat16, 2 bytes; stochastic: nothing, updates are rounded up or down by chance, right on
    average; none: nothing, such updates are lost. With kahan and stochastic the moments take 2 bytes each, not 4."""
    momentum: Decay | None = None
    """Of sgd and muon; null: 0.9, and 0.95 with muon."""
    galore: GaLore = Field(default_factory=GaLore)
    """Of galore."""
    paged: bool = False
    """Moments of adamw and adamw_8bit lie in memory that a CUDA device pages in from the host where they are stepped;
    torch only."""
    in_backward: bool = False
    """Step each weight in the backward pass as soon as its gradient is there, and let the gradient go; torch only."""

    @property
    def decays(self) -> tuple[float, float]:
        """Of the two moments."""
        return self.betas or ((0.9, 0.99) if self.kind == "lion" else (0.9, 0.999))

    @property
    def momentum_or_default(self) -> float:
        """The momentum, which sgd and muon have."""
        default = 0.95 if self.kind == "muon" else 0.9
        return default if self.momentum is None else self.momentum

    @property
    def whole(self) -> bool:
        """Whether a step looks at whole matrices, which ZeRO cuts."""
        return self.kind in ("adafactor", "muon", "galore")
