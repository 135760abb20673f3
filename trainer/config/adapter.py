"""`adapter:` small trainable modules beside a frozen model; the settings of each `kind`."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from trainer.config.section import Section


class NoAdapter(Section):
    """The model itself trains."""

    kind: Literal["none"] = "none"
    """The model itself trains."""


class Targeted(Section):
    """What stands beside linear layers."""

    targets: Literal["all_linear", "attention", "mlp"] | tuple[str, ...] | None = None
    """The linear layers that get an adapter: all but the head, those of attention or of the MLPs, or a list of endings
    of their names; `re:` before an item makes it a regular expression of the whole name. null: all_linear, with ia3
    keys, values and the last layers of the MLPs."""


class Thin(Targeted):
    """A product of two thin matrices beside each target."""

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


class Lora(Thin):
    """LoRA (Hu et al. 2021)."""

    kind: Literal["lora"]
    """A product of two thin matrices beside each target."""
    start: Literal["default", "pissa", "olora", "loftq", "eva"] = "default"
    """What the two matrices begin as. default: a random one and zero; pissa: the largest singular directions of the
    target, which keeps the others (Meng et al. 2024); olora: its QR decomposition (Büyükakyüz 2024); loftq: what a base
    in 4 bits lacks of the whole one, as far as their rank reaches (Li et al. 2023); eva: the directions of what enters
    each target in the first step (Paischer et al. 2024), and zero."""


class Dora(Thin):
    """DoRA (Liu et al. 2024)."""

    kind: Literal["dora"]
    """LoRA on directions, and a trained length of each output."""


class AdaLora(Targeted):
    """AdaLoRA (Zhang et al. 2023): singular values beside each target, of which the least important are let go."""

    kind: Literal["adalora"]
    """Ranks that are shared out over the targets by importance."""
    r: int = Field(8, ge=1)
    """The rank that a target ends with, in the mean over all."""
    first: int = Field(12, ge=1)
    """The rank that each begins with."""
    alpha: int = Field(32, ge=1)
    """The product is scaled by alpha / first."""
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of a target's inputs that the adapter does not see in a training step."""
    begin: float = Field(0.1, ge=0.0, lt=1.0)
    """The part of the run's steps before the first is let go."""
    end: float = Field(0.3, ge=0.0, lt=1.0)
    """The part of the run's steps after the last was let go."""
    every: int = Field(1, ge=1)
    """Steps between two decisions."""
    betas: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], Annotated[float, Field(gt=0.0, lt=1.0)]] = (0.85, 0.85)
    """Decay of the means of importance, and of its uncertainty."""
    orthogonality: float = Field(0.5, ge=0.0)
    """The weight of the penalty that keeps singular vectors orthogonal."""


class Ia3(Targeted):
    """IA3 (Liu et al. 2022)."""

    kind: Literal["ia3"]
    """Factors on outputs, and on the inputs of the MLP's last layer."""


class Vera(Targeted):
    """VeRA (Kopiczko et al. 2023)."""

    kind: Literal["vera"]
    """LoRA of frozen random matrices that all targets share, with trained factors between them."""
    r: int = Field(256, ge=1)
    """The rank, and the number of a target's inner factors."""
    initial: float = Field(0.1, gt=0.0)
    """What the inner factors begin as; the outer ones begin as 0."""
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of a target's inputs that the adapter does not see in a training step."""


class Oft(Targeted):
    """OFT (Qiu et al. 2023; Qiu et al. 2025)."""

    kind: Literal["oft"]
    """Rotations of each target's inputs, block by block."""
    block: int = Field(32, ge=2)
    """Inputs that are rotated together; it divides those of every target."""
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of blocks that are not rotated in a training step."""
    exact: bool = False
    """Rotations by a matrix inverse; false: by five terms of its series."""


class Prompt(Section):
    """Prompt tuning (Lester et al. 2021)."""

    kind: Literal["prompt"]
    """Trained embeddings before each row."""
    tokens: int = Field(20, ge=1)
    """So many."""
    text: str | None = None
    """What they begin as, cut or repeated to their number; null: tokens drawn at random."""


class Prefix(Section):
    """Prefix tuning (Li and Liang 2021)."""

    kind: Literal["prefix"]
    """Trained keys and values before those of each row, in every layer of a decoder."""
    tokens: int = Field(20, ge=1)
    """So many."""
    hidden: int | None = Field(None, ge=1)
    """The width of a network that makes them in training; null: they train themselves."""


class PTuning(Section):
    """P-tuning (Liu et al. 2021)."""

    kind: Literal["p_tuning"]
    """Embeddings before each row, which a trained network makes."""
    tokens: int = Field(20, ge=1)
    """So many."""
    hidden: int = Field(128, ge=1)
    """The width of the network."""
    encoder: Literal["mlp", "lstm"] = "mlp"
    """Which network it is."""


class OfPeft(Targeted):
    """Any other method of the installed peft that stands beside layers."""

    kind: Literal["peft"]
    """By peft's own name and keys."""
    method: str
    """As peft calls it: loha, lokr, boft, fourierft and so on."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Keys of its configuration in peft; target_modules stands above `targets`."""


Adapter = Annotated[
    NoAdapter | Lora | Dora | AdaLora | Ia3 | Vera | Oft | Prompt | Prefix | PTuning | OfPeft,
    Field(discriminator="kind"),
]
Prompted = Prompt | Prefix | PTuning
"""Those that stand before rows, not beside layers."""
BEFORE_ROWS = ("prompt", "prefix", "p_tuning")
"""Their kinds."""
DEFAULT = "none"
KINDS = tuple(kind.model_fields["kind"].annotation.__args__[0] for kind in get_args(get_args(Adapter)[0]))
"""Every `adapter.kind`."""
