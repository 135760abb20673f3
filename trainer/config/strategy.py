"""`strategy:` what trains; the settings of each `kind`."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from trainer.config.section import Section

Part = Literal[
    "embeddings",
    "attention",
    "cross_attention",
    "mlp",
    "norms",
    "bias",
    "pooler",
    "head",
    "encoder",
    "decoder",
    "vision",
    "projector",
]
PATTERN = "re:"
"""What a regular expression begins with."""


class Full(Section):
    """Everything that the adapter left trainable."""

    kind: Literal["full"] = "full"
    """Everything trains, from the first step to the last."""


Cache = Literal["none", "memory", "disk"]


class Cached(Section):
    """Layers may rest below all that trains."""

    cache: Cache = "none"
    """Where what they make of each training example is kept after its first pass, with their dropout off, so that later
    passes begin above them; memory is shared by the processes of a node."""


class Chosen(Section):
    """Some of it: all that any of the keys names. A head of the task trains besides."""

    last: int | None = Field(None, ge=1)
    """So many layers at the top: of an encoder-decoder those of the decoder, then of the encoder."""
    layers: tuple[int, int] | None = None
    """The first layer and the last one, counted from 0 at the bottom; a decoder's follow those of its encoder."""
    train: tuple[str, ...] = ()
    """Parts (embeddings, attention, cross_attention, mlp, norms, bias, pooler, head, encoder, decoder, vision,
    projector), and regular expressions that fit whole names of parameters, such as `re:.*q_proj.*`; [bias] is BitFit.
    """


class Partial(Chosen, Cached):
    """Some of it, from the first step to the last."""

    kind: Literal["partial"]
    """Some layers, or some parts."""


class EncoderOnly(Section):
    """The encoder of an encoder-decoder; its decoder and what both share are frozen."""

    kind: Literal["encoder_only"]
    """The encoder trains."""


class DecoderOnly(Section):
    """The decoder of an encoder-decoder; its encoder and what both share are frozen."""

    kind: Literal["decoder_only"]
    """The decoder trains."""


class Discriminative(Cached):
    """The head of a task and the last layers, the lower a layer the lower its rate (Howard and Ruder 2018)."""

    kind: Literal["discriminative"]
    """Head and last layers, with rates of their own."""
    last: int | None = Field(None, ge=1)
    """So many layers at the top; null: all, and the embeddings."""
    decay: float = Field(0.9, gt=0.0, le=1.0)
    """What the rate of a layer is of that of the one above it; `optimizer.layer_decay` stands above it."""


class Ends(Section):
    """When a phase ends: at most one of these."""

    steps: int | None = Field(None, ge=1)
    """After so many optimizer steps."""
    epochs: float | None = Field(None, gt=0.0)
    """After so many passes over the training rows."""
    plateau: int | None = Field(None, ge=1)
    """After so many validations in a row that were no better than the best one."""

    @property
    def ends(self) -> tuple[str, ...]:
        """The keys that say when."""
        return tuple(name for name in Ends.model_fields if getattr(self, name) is not None)


class Layerwise(Ends, Cached):
    """Gradual unfreezing: the head first, then the layers from the top down, at last the embeddings (Howard and Ruder
    2018, section 3.3). Each phase ends as the keys say; where none does, the run is shared out evenly.
    """

    kind: Literal["layerwise"]
    """From the head downwards, one phase after the other."""
    each: int = Field(1, ge=1)
    """So many layers begin in a phase."""
    refreeze: bool = False
    """Each phase trains what begins in it alone, and one more at the end trains all (chain-thaw: Felbo et al. 2017)."""
    restart: bool = False
    """Each phase has the whole schedule, warm-up included; false: the schedule goes on."""


class Lisa(Section):
    """A few layers at a time, drawn anew after each stretch; embeddings, head and norms behind the layers train always
    (Pan et al. 2024).
    """

    kind: Literal["lisa"]
    """Layers by chance."""
    layers: int = Field(2, ge=1)
    """So many train at a time."""
    every: int = Field(20, ge=1)
    """Optimizer steps of a stretch."""


class Phase(Chosen, Ends):
    """What trains for a while. The last one goes on to the end of the run."""

    rate: float = Field(1.0, gt=0.0)
    """On `optimizer.lr`."""


class Phases(Cached):
    """Phases that the recipe writes out."""

    kind: Literal["phases"]
    """One written phase after the other."""
    phases: tuple[Phase, ...] = Field(min_length=1)
    """From the first step on."""
    restart: bool = False
    """Each phase has the whole schedule, warm-up included; false: the schedule goes on."""


Strategy = Annotated[
    Full | Partial | EncoderOnly | DecoderOnly | Discriminative | Layerwise | Lisa | Phases,
    Field(discriminator="kind"),
]
DEFAULT = "full"
KINDS = tuple(kind.model_fields["kind"].annotation.__args__[0] for kind in get_args(get_args(Strategy)[0]))
"""Every `strategy.kind`."""
PHASED = ("layerwise", "lisa", "phases")
"""Those by which different weights train at different times."""
