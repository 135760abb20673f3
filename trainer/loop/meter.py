"""Sums since the last report, over the micro-batches of this rank; reduced over ranks when reported."""

import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from trainer import ranks
from trainer.data.batches import Batch
from trainer.loop.callback import StepMetrics
from trainer.loop.state import State
from trainer.loop.throughput import Throughput


def peak_memory(device: torch.device) -> int:
    """Bytes: the allocator's maximum on a CUDA device, the process's high-water mark on a CPU; the largest rank."""
    own = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident()
    return int(max(ranks.all_gather(float(own))))


def memory_by_kind(device: torch.device, imports: int) -> dict[str, int | None]:
    """Bytes of the largest rank, None where the device does not tell them.

    `allocated` and `reserved` are the maxima of a CUDA device's allocator, `resident` that of the host's memory;
    `imports` is what the process took before there were rows and weights.
    """
    cuda = device.type == "cuda"
    held = {
        "allocated": torch.cuda.max_memory_allocated(device) if cuda else None,
        "reserved": torch.cuda.max_memory_reserved(device) if cuda else None,
        "resident": _resident(),
        "imports": imports,
    }
    return {name: None if own is None else int(max(ranks.all_gather(float(own)))) for name, own in held.items()}


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass(frozen=True)
class Sizes:
    """What one optimizer step computed over all ranks; StepMetrics says what each number is."""

    tokens: float
    positions: float
    squares: float
    targets: float

    @classmethod
    def taken(cls, counts: dict[str, float]) -> "Sizes":
        """Out of counts that hold `sizes_of`; what stays are those of the terms, which are learned."""
        tokens, positions, squares = (counts.pop(name) for name in _SIZES)
        return cls(tokens, positions, squares, sum(counts.values()))


_SIZES = (" tokens", " positions", " squares")
"""Beside the counts of a loss's terms, none of which begins with a space."""


def sizes_of(batches: Sequence[Batch]) -> dict[str, float]:
    """What this rank computes in a step, by names that no term of a loss has."""
    tokens = sum(batch.tokens for batch in batches)
    positions = sum(batch.input_ids.numel() for batch in batches)
    return dict(zip(_SIZES, (float(tokens), float(positions), float(sum(map(_squares, batches)))), strict=True))


def _squares(batch: Batch) -> int:
    if batch.segments is not None:
        return sum(length * length for length in batch.segments)
    return 0 if batch.attention_mask is None else int(batch.attention_mask.sum(dim=1).square().sum())


class Meter:
    """What happened since the last report."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.began = self.since = time.monotonic()
        self.outside = 0.0
        self.processor = time.process_time()
        self.throughput = Throughput()
        self._clear()

    def _clear(self) -> None:
        self.loss = torch.zeros((), device=self.device)
        self.tokens = self.targets = self.positions = self.squares = self.steps = 0

    def start(self) -> None:
        """The first step is about to begin."""
        self.since, self.processor = time.monotonic(), time.process_time()

    def add(self, loss: torch.Tensor, sizes: Sizes, seconds: float) -> None:
        """One optimizer step: this rank's share of its loss, what all ranks computed, its length."""
        self.loss = self.loss + loss
        self.tokens += int(sizes.tokens)
        self.targets += int(sizes.targets)
        self.positions += int(sizes.positions)
        self.squares += int(sizes.squares)
        self.steps += 1
        self.throughput.add(int(sizes.tokens), seconds)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leaves out what happens within it, such as a validation."""
        began, processor = time.monotonic(), time.process_time()
        yield
        self.outside += time.monotonic() - began
        self.processor += time.process_time() - processor

    def report(self, state: State, lr: float, grad_norm: float | None) -> StepMetrics:
        """Metrics over all ranks since the last report."""
        now = time.monotonic()
        sums = ranks.all_reduce({"loss": float(self.loss), "processor": time.process_time() - self.processor})
        seconds = max(1e-9, now - self.since - self.outside)
        metrics = StepMetrics(
            step=state.step,
            epoch=state.epoch,
            loss=sums["loss"] / max(1, self.steps),
            lr=lr,
            grad_norm=grad_norm,
            tokens=self.tokens,
            targets=self.targets,
            positions=self.positions,
            squares=self.squares,
            tokens_per_second=self.tokens / seconds,
            peak_memory_bytes=peak_memory(self.device),
            seconds=now - self.began,
            processor_seconds=sums["processor"],
        )
        self.since, self.outside, self.processor = now, 0.0, time.process_time()
        self._clear()
        return metrics
