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


class Partial(Section):
    """Some of it: all that any of the keys names. A head of the task trains besides."""

    kind: Literal["partial"]
    """Some layers, or some parts."""
    last: int | None = Field(None, ge=1)
    """So many layers at the top: of an encoder-decoder those of the decoder, then of the encoder."""
    layers: tuple[int, int] | None = None
    """The first layer and the last one, counted from 0 at the bottom; a decoder's follow those of its encoder."""
    train: tuple[str, ...] = ()
    """Parts (embeddings, attention, cross_attention, mlp, norms, bias, pooler, head, encoder, decoder, vision,
    projector), and regular expressions that fit whole names of parameters, such as `re:.*q_proj.*`; [bias] is BitFit.
    """


class EncoderOnly(Section):
    """The encoder of an encoder-decoder; its decoder and what both share are frozen."""

    kind: Literal["encoder_only"]
    """The encoder trains."""


class DecoderOnly(Section):
    """The decoder of an encoder-decoder; its encoder and what both share are frozen."""

    kind: Literal["decoder_only"]
    """The decoder trains."""


class Discriminative(Section):
    """The head of a task and the last layers, the lower a layer the lower its rate (Howard and Ruder 2018)."""

    kind: Literal["discriminative"]
    """Head and last layers, with rates of their own."""
    last: int | None = Field(None, ge=1)
    """So many layers at the top; null: all, and the embeddings."""
    decay: float = Field(0.9, gt=0.0, le=1.0)
    """What the rate of a layer is of that of the one above it; `optimizer.layer_decay` stands above it."""


Strategy = Annotated[
    Full | Partial | EncoderOnly | DecoderOnly | Discriminative,
    Field(discriminator="kind"),
]
DEFAULT = "full"
KINDS = tuple(kind.model_fields["kind"].annotation.__args__[0] for kind in get_args(get_args(Strategy)[0]))
"""Every `strategy.kind`."""
