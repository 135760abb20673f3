"""`train:` how long, from which seed, in which precision."""

from typing import Literal

from pydantic import Field

from trainer.config.section import Section


class Train(Section):
    """The length of the run and the arithmetic of a step."""

    epochs: float = Field(3, gt=0.0)
    """Passes over the training rows; a part of a pass is rounded up to whole steps."""
    max_steps: int | None = Field(None, ge=1)
    """Optimizer steps after which the run ends, whatever `epochs` says; null: no such end."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seeds new weights, the order of rows, dropout and the held-out rows."""
    clip: float | None = Field(1.0, gt=0.0)
    """The largest norm of the gradient; null: no clipping."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What products are computed in; auto: as the weights are stored."""
    checkpointing: Literal["none", "full"] = "none"
    """full: keep one hidden state a layer and compute the rest again in the backward pass."""
    compile: bool = False
    """Fuse what stands between the products of a layer with torch.compile: half a minute at the start, then faster."""
    kernels: Literal["auto", "none"] = "auto"
    """auto: on a CPU, what stands between the products of a layer runs as C code, compiled once a machine in seconds;
    none: torch's own operations."""
    threads: int | None = Field(None, ge=1)
    """Processor threads a local process; null: the cores shared out among the processes."""
