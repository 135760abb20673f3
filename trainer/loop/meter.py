"""Sums since the last report, over the micro-batches of this rank; reduced over ranks when reported."""

import resource
import time

import torch

from trainer import ranks
from trainer.loop.callback import StepMetrics
from trainer.loop.state import State
from trainer.loop.throughput import Throughput


def peak_memory(device: torch.device) -> int:
    """Bytes: the allocator's maximum on a CUDA device, the process's high-water mark on a CPU; the largest rank."""
    own = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident()
    return int(max(ranks.all_gather(float(own))))


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Meter:
    """What happened since the last report."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.began = self.since = time.monotonic()
        self.outside = 0.0
        self.throughput = Throughput()
        self._clear()

    def _clear(self) -> None:
        self.loss = torch.zeros((), device=self.device)
        self.tokens = self.targets = self.steps = 0

    def add(self, loss: torch.Tensor, tokens: float, targets: float, seconds: float) -> None:
        """One optimizer step: this rank's share of its loss, the tokens and learned tokens of all ranks, its length."""
        self.loss = self.loss + loss
        self.tokens += int(tokens)
        self.targets += int(targets)
        self.steps += 1
        self.throughput.add(int(tokens), seconds)

    def pause(self, seconds: float) -> None:
        """Leaves out time that was not spent training, such as a validation."""
        self.outside += seconds

    def report(self, state: State, lr: float, grad_norm: float | None) -> StepMetrics:
        """Metrics over all ranks since the last report."""
        now = time.monotonic()
        loss = ranks.all_reduce({"loss": float(self.loss)})["loss"]
        seconds = max(1e-9, now - self.since - self.outside)
        metrics = StepMetrics(
            step=state.step,
            epoch=state.epoch,
            loss=loss / max(1, self.steps),
            lr=lr,
            grad_norm=grad_norm,
            tokens=self.tokens,
            targets=self.targets,
            tokens_per_second=self.tokens / seconds,
            peak_memory_bytes=peak_memory(self.device),
            seconds=now - self.began,
        )
        self.since, self.outside = now, 0.0
        self._clear()
        return metrics
