"""`adapter:` small trainable modules beside a frozen model."""

from typing import Literal

from pydantic import Field

from trainer.config.section import Section


class Adapter(Section):
    """Which adapter is added to the model, and where."""

    kind: Literal["none", "lora"] = "none"
    """none: the model itself trains; lora: a product of two thin matrices beside each target (Hu et al. 2021)."""
    r: int = Field(16, ge=1)
    """The rank: columns of the one thin matrix and rows of the other."""
    alpha: int = Field(32, ge=1)
    """The product is scaled by alpha / r."""
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of a target's inputs that the adapter does not see in a training step."""
    targets: Literal["all_linear", "attention", "mlp"] | tuple[str, ...] = "all_linear"
    """The linear layers that get an adapter: all but the head, those of attention or of the MLPs, or a list of endings
    of their names; `re:` before an item makes it a regular expression of the whole name."""
