"""Everything that the adapter left trainable, from the first step to the last."""

from collections.abc import Sequence

from trainer.config.strategy import Full
from trainer.parameter import Parameter


def trains(settings: Full, listed: Sequence[Parameter]) -> list[Parameter]:
    """All of them."""
    return list(listed)
