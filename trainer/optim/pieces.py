"""Tensors cut into pieces and laid together into chunks: a step needs room for one chunk, not for a model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

Flat = tuple[torch.Tensor, list[torch.Tensor]]
"""One flat tensor over a chunk, and its parts piece by piece."""


@dataclass(frozen=True)
class Piece:
    """Values `first` to `last` of a weight that is looked at as flat."""

    weight: torch.Tensor
    first: int
    last: int

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The same values of a tensor that is laid out like the weight; a view where that one is contiguous."""
        return tensor.reshape(-1)[self.first : self.last]

    @property
    def is_last(self) -> bool:
        """Whether the weight ends with it."""
        return self.last == self.weight.numel()


def room(device: torch.device) -> int:
    """Values of a chunk: few enough for a processor's cache, many enough to fill a GPU."""
    return 2**17 if device.type == "cpu" else 2**22


def chunks(weights: Sequence[torch.Tensor], size: int) -> Iterator[list[Piece]]:
    """Lists of pieces of at most `size` values together; a large weight is cut at multiples of `size`."""
    held: list[Piece] = []
    free = size
    for weight in weights:
        count = weight.numel()
        if held and count > free:
            yield held
            held, free = [], size
        for first in range(0, count, size):
            held.append(Piece(weight, first, min(count, first + size)))
            free -= held[-1].last - first
            if free == 0:
                yield held
                held, free = [], size
    if held:
        yield held


class Scratch:
    """Float32 room for the tensors of one chunk, kept from chunk to chunk."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, torch.device], torch.Tensor] = {}

    def filled(self, name: str, sources: list[torch.Tensor]) -> Flat:
        """Float32 copies of flat pieces, end to end."""
        sizes = [source.numel() for source in sources]
        key, count = (name, sources[0].device), sum(sizes)
        if key not in self._held or self._held[key].numel() < count:
            self._held[key] = torch.empty(count, dtype=torch.float32, device=sources[0].device)
        flat = self._held[key][:count]
        parts = list(torch.split(flat, sizes))
        torch._foreach_copy_(parts, sources)
        return flat, parts
