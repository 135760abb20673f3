"""The encoder of an encoder-decoder; its decoder and what both share are frozen."""

from collections.abc import Sequence

from trainer.config.strategy import EncoderOnly
from trainer.parameter import Parameter
from trainer.strategy import halves


def trains(settings: EncoderOnly, listed: Sequence[Parameter]) -> list[Parameter]:
    """RecipeError for a model without two halves."""
    return halves.of(listed, "encoder")
