"""What the loop asks of an engine; the loop knows no vendor."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from trainer.adapter.budget import Budget
from trainer.config.optimizer import Optimizer
from trainer.data.batches import Batch
from trainer.optim.groups import NO_PHASES
from trainer.strategy.course import Since

Terms = dict[str, torch.Tensor]
"""Summed loss of each term over one micro-batch, detached."""


@dataclass(frozen=True)
class Shards:
    """How the state of a run is laid over its processes; kept beside every checkpoint."""

    engine: str
    """torch or deepspeed."""
    zero: int
    """The ZeRO stage; 0 where nothing is shared out."""
    ranks: int
    """Processes that wrote it."""

    @property
    def whole(self) -> bool:
        """Whether every process holds every weight whole between passes."""
        return self.zero < 3

    def __str__(self) -> str:
        kind = "torch" if self.engine == "torch" else f"DeepSpeed ZeRO-{self.zero}"
        return f"{kind} on {self.ranks} process{'es' if self.ranks > 1 else ''}"


class Looks(Protocol):
    """What looks at rows without training on them."""

    device: torch.device

    def evaluate(self, batch: Batch) -> Terms:
        """The terms without gradients, in evaluation mode."""

    def gathered(self) -> AbstractContextManager[None]:
        """The whole weights on every rank, for generation."""


class Engine(Looks, Protocol):
    """Made before the model, because ZeRO-3 must be there while weights are read."""

    budget: Budget | None
    """Who looks at whole gradients before each step, and at weights after it; torch alone has one."""

    @property
    def shards(self) -> Shards:
        """How this engine lays its state over the processes."""

    def loading(self) -> AbstractContextManager[None]:
        """What has to hold while weights are made or read."""

    def prepare(self, module: nn.Module, settings: Optimizer, since: Since = NO_PHASES) -> None:
        """Takes the module whose forward returns the terms, and makes its optimizer; `since` tells the weights that
        began to train in different phases.
        """

    def rebuild(self, settings: Optimizer, since: Since) -> None:
        """After other weights of the module train than before; all ranks call it.

        What goes on keeps value, moments and count of steps, bit by bit; what no longer trains loses them.
        """

    def begin(self, lr: float) -> None:
        """Before the first micro-batch of a step: the rate of the step, which may be made in the backward pass."""

    def look(self, batch: Batch) -> Terms:
        """What the module returns in training, without a gradient; all ranks look equally often."""

    def forward_backward(self, batch: Batch, factors: Mapping[str, float], last: bool) -> Terms:
        """Adds the gradient of the sum over terms of factor x term; `last` marks the last micro-batch of the step.

        After the last one, gradients are summed over ranks: the factors hold the division by the counts of the step.
        """

    def step(self, lr: float) -> float | None:
        """Clips, updates, clears; the gradient's norm before clipping, None where the engine does not tell it."""

    def watched(self) -> Iterator[tuple[str, bool, list[torch.Tensor]]]:
        """Of each parameter its name, whether it trains, and what this process keeps of its value.

        That of one that trains is what the optimizer steps: its copy in more bits, where there is one. Where there is
        none and updates may be rounded away, the first moment stands beside it, which is zero without a gradient.
        """

    def save_state(self, folder: Path) -> None:
        """Weights and optimizer into a folder that is there on every rank; all ranks call it."""

    def copy_state(self) -> Callable[[Path], None] | None:
        """A copy of what `save_state` writes, as a function that writes it later from another thread.

        None where there is no room for a copy, or none can be made; alike on all ranks, which all call it.
        """

    def load_state(self, folder: Path) -> None:
        """What `save_state` wrote, as these very shards; all ranks call it."""

    def load_universal(self, folder: Path) -> None:
        """What other shards saved, brought into the universal form; all ranks call it."""

    def gather(self, names: Sequence[str]) -> Iterator[tuple[str, torch.Tensor]]:
        """These entries of the module's state in full, one at a time; all ranks iterate, rank 0 uses what it gets."""

    def release(self) -> None:
        """Lets go of weights and optimizer; the engine is not used again."""
