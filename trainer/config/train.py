"""`train:` how long, from which seed, in which precision."""

from typing import Literal

from pydantic import ByteSize, Field

from trainer.config.section import Section


class Every(Section):
    """Layers counted off."""

    every: int = Field(ge=1)
    """full for one of so many layers: the first, and each that many after it."""


class Train(Section):
    """The length of the run and the arithmetic of a step."""

    epochs: float = Field(3, gt=0.0)
    """Passes over the training rows; a part of a pass is rounded up to whole steps."""
    max_steps: int | None = Field(None, ge=1)
    """Optimizer steps after which the run ends, whatever `epochs` says; null: no such end."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seeds new weights, the order of rows, dropout and the held-out rows."""
    clip: float | None = Field(1.0, gt=0.0)
    """The largest norm of the gradient; null: no clipping. With `optimizer.in_backward` that of the step before counts,
    and the first step is not clipped."""
    clip_value: float | None = Field(None, gt=0.0)
    """The largest value of the gradient, in place of its norm: what is beyond is cut off on either side; torch only.
    null: none is."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What products are computed in; auto: as the weights are stored."""
    checkpointing: Literal["none", "selective", "full", "auto"] | Every = "none"
    """What layers keep for the backward pass. full: their input, the rest is computed again; selective: the results of
    matrix products too; {every: 2}: full for every second layer; auto: as little is computed again as memory_budget
    allows, decided when the model is there."""
    memory_budget: ByteSize | None = Field(None, gt=0)
    """Bytes that a process may take, or text such as 6GiB: of its CUDA device, else of the host; null: what is there.
    Only checkpointing: auto looks at it."""
    audit: bool = True
    """Whether the first steps are looked at: what trains has moved, and all else is as it was, bit by bit."""
    compile: bool = False
    """Fuse what stands between the products of a layer with torch.compile: half a minute at the start, then faster."""
    kernels: Literal["auto", "none"] = "auto"
    """auto: on a CPU, what stands between the products of a layer runs as C code, compiled once a machine in seconds;
    none: torch's own operations."""
    threads: int | None = Field(None, ge=1)
    """Processor threads a local process; null: the cores shared out among the processes."""
