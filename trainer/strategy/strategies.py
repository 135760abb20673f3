"""The strategies by their `strategy.kind`."""

from trainer.strategy import full

STRATEGIES = {"full": full.trains}
