"""`task:` what is learned; the settings of each `kind` stand in the file of its name."""

from typing import Annotated

from pydantic import Field

from trainer.config.causal_lm import CausalLM
from trainer.config.classify import Classify
from trainer.config.image_text import ImageText
from trainer.config.relations import Relations
from trainer.config.seq2seq import Seq2Seq

FALLING = ("loss", "rmse", "mae")
"""The metrics of which less is better."""
KINDS: tuple[type[CausalLM] | type[Classify] | type[Relations] | type[Seq2Seq] | type[ImageText], ...] = (
    CausalLM,
    Classify,
    Relations,
    Seq2Seq,
    ImageText,
)
BY_KIND = {kind.model_fields["kind"].annotation.__args__[0]: kind for kind in KINDS}  # type: ignore[union-attr]
"""The settings of each `task.kind`."""
DEFAULT = "causal_lm"

Task = Annotated[CausalLM | Classify | Relations | Seq2Seq | ImageText, Field(discriminator="kind")]
