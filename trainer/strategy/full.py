"""Everything that the adapter left trainable, from the first step to the last."""

from trainer.plan.parameters import Parameter


def trains(parameter: Parameter) -> bool:
    """Whether a parameter trains; the adapter's own choice stands besides."""
    return True
