"""`adapter:` small trainable modules beside a frozen model."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.config.section import Section


class Adapter(Section):
    """Which adapter is added to the model, and where."""

    kind: Literal["none", "lora", "dora", "ia3"] = "none"
    """none: the model itself trains; lora: a product of two thin matrices beside each target (Hu et al. 2021); dora:
    the same on directions, and a length of each output (Liu et al. 2024); ia3: factors on outputs, and on the inputs of
    the MLP's last layer (Liu et al. 2022)."""
    r: int = Field(16, ge=1)
    """The rank: columns of the one thin matrix and rows of the other."""
    alpha: int = Field(32, ge=1)
    """The product is scaled by alpha / r."""
    rslora: bool = False
    """The product is scaled by alpha / sqrt(r), so that high ranks learn too (Kalajdzievski 2023)."""
    ranks: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Ranks of their own, by endings of layers' names or `re:` and an expression of the whole name; the first that fits
    counts."""
    alphas: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Alphas of their own, likewise."""
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of a target's inputs that the adapter does not see in a training step."""
    targets: Literal["all_linear", "attention", "mlp"] | tuple[str, ...] | None = None
    """The linear layers that get an adapter: all but the head, those of attention or of the MLPs, or a list of endings
    of their names; `re:` before an item makes it a regular expression of the whole name. null: all_linear, with ia3
    keys, values and the last layers of the MLPs."""

    @property
    def thin(self) -> bool:
        """Whether it is a product of two thin matrices."""
        return self.kind in ("lora", "dora")
