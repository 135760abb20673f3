"""The strategies by their `strategy.kind`, and what they do to a model."""

from torch import nn

from trainer.plan.parameters import parameter
from trainer.strategy import full

STRATEGIES = {"full": full.trains}


def freeze(model: nn.Module, kind: str) -> None:
    """Freezes what the strategy does not train; what the adapter froze stays frozen.

    Under ZeRO-3 a parameter's own shape is empty, and `ds_shape` holds the real one.
    """
    trains = STRATEGIES[kind]
    for name, weight in model.named_parameters():
        if not trains(parameter(name, tuple(getattr(weight, "ds_shape", weight.shape)))):
            weight.requires_grad_(False)
