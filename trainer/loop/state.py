"""What a run is at this moment; everything a checkpoint has to remember besides tensors."""

from dataclasses import dataclass


@dataclass
class State:
    """Counters of the run; equal on every rank."""

    step: int = 0
    """Optimizer steps done."""
    steps: int = 0
    """Optimizer steps of the whole run."""
    epoch: float = 0.0
    """Passes over the training rows done."""
    position: dict[str, int] | None = None
    """Where a stream goes on; None where the step alone says which rows are next."""
    tokens: int = 0
    """Tokens trained on, padding left out, over all ranks."""
    best_step: int | None = None
    """The step of the best validation so far."""
    best_value: float | None = None
    """Its value of `evaluate.metric`."""
    first_value: float | None = None
    """That metric before the first step."""
    since_best: int = 0
    """Validations since the best one."""
    phase: int = 0
    """The phase of the strategy that the run is in."""
    phase_step: int = 0
    """The step at which it began."""
    phase_epoch: float = 0.0
    """Passes over the training rows done by then."""
    stalled: int = 0
    """Validations in it since one was the best of the run."""
    resumed_from: int | None = None
    """The step of the checkpoint that this process started from."""
    saved_step: int | None = None
    """The step of the newest checkpoint."""
    stopping: bool = False
    """A signal asked the run to save and leave."""
