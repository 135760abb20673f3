"""`log:` what is told while training."""

from typing import Annotated

from pydantic import Field

from trainer.config.section import Section

Step = Annotated[int, Field(ge=1)]


class Profile(Section):
    """A few steps under torch's profiler."""

    steps: tuple[Step, Step]
    """The first step that is profiled and the last, counted from 1."""


class Log(Section):
    """How often the run speaks, and where."""

    every: int = Field(10, ge=1)
    """Optimizer steps between two lines of metrics.jsonl."""
    tensorboard: bool = True
    """Whether the metrics are written for TensorBoard too."""
    profile: Profile | None = None
    """Steps whose operations are written to `profile/` in the run folder, as a trace that chrome://tracing opens; on
    CUDA with a snapshot of the memory. Such as {steps: [10, 12]}; null: none."""
