"""The decoder of an encoder-decoder; its encoder and what both share are frozen."""

from collections.abc import Sequence

from trainer.config.strategy import DecoderOnly
from trainer.parameter import Parameter
from trainer.strategy import halves


def trains(settings: DecoderOnly, listed: Sequence[Parameter]) -> list[Parameter]:
    """RecipeError for a model without two halves."""
    return halves.of(listed, "decoder")
