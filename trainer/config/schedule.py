"""`schedule:` the learning rate over the run."""

from typing import Literal

from pydantic import Field

from trainer.config.section import Section


class Schedule(Section):
    """The learning rate as a function of the optimizer step."""

    kind: Literal[
        "linear",
        "cosine",
        "cosine_restarts",
        "constant",
        "polynomial",
        "inverse_sqrt",
        "wsd",
        "one_cycle",
        "range_test",
    ] = "linear"
    """What follows the warm-up: a line to zero; half a cosine to zero, once or several times (Loshchilov and Hutter
    2017); no change; a power of what is left; the inverse square root of the step (Vaswani et al. 2017); no change and
    at the end a fall (warm-up, stable, decay: Hu et al. 2024); one rise and one fall by cosines (Smith 2018); or, to
    find a rate, an exponential rise until the loss explodes (Smith 2017), which `train --find-lr` takes."""
    warmup: float = Field(0.03, ge=0.0)
    """Below 1: the fraction of all optimizer steps that rise from zero; 1 and above: that many steps."""
    floor: float = Field(0.0, ge=0.0, lt=1.0)
    """What is left at the end, as a share of the highest rate."""
    cycles: int = Field(2, ge=1)
    """How often cosine_restarts falls."""
    power: float = Field(2.0, gt=0.0)
    """That of polynomial; 1 is a line."""
    decay: float = Field(0.1, gt=0.0)
    """Below 1: the fraction of all optimizer steps in which wsd falls, by a line; 1 and above: that many steps."""
    decades: float = Field(7.0, gt=0.0)
    """Powers of ten below the highest rate at which range_test begins."""
