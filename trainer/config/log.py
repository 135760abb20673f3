"""`log:` what is told while training."""

from pydantic import Field

from trainer.config.section import Section


class Log(Section):
    """How often the run speaks, and where."""

    every: int = Field(10, ge=1)
    """Optimizer steps between two lines of metrics.jsonl."""
    tensorboard: bool = True
    """Whether the metrics are written for TensorBoard too."""
