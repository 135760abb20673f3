"""Stochastic rounding of float32 into bfloat16: up or down by chance, so that the mean of many roundings is exact."""

import zlib

import torch

from trainer.optim.pieces import Flat, room


class Noise:
    """The random bits of a step: a function of (seed, step, place) alone, equal on replicas and after a resume."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._step = -1
        self._block = torch.empty(0, dtype=torch.int32)

    def window(self, step: int, place: tuple[int, ...], count: int, device: torch.device) -> torch.Tensor:
        """Whole numbers [count] from 0 to 65535; each place of a step reads the step's block from its own offset."""
        if step != self._step or self._block.device != device:
            generator = torch.Generator(device).manual_seed(_mixed(self.seed, step))
            length = 2 * room(device)
            self._block = torch.randint(0, 2**16, (length,), generator=generator, device=device, dtype=torch.int32)
            self._step = step
        offset = _mixed(self.seed, step, *place) % (self._block.numel() - count + 1)
        return self._block[offset : offset + count]


def _mixed(*numbers: int) -> int:
    """One number of 32 bits that depends on all."""
    return zlib.crc32(repr(numbers).encode())


def round_into(targets: list[torch.Tensor], values: Flat, noise: torch.Tensor) -> None:
    """Puts float32 values into bfloat16 pieces; `values` holds what was put afterwards.

    A bfloat16 is the upper half of a float32: a uniform number added to the lower half carries over as often as the
    lower half is large.
    """
    flat, parts = values
    if flat.device.type != "cpu":
        # CUDA's NaN has all bits set, and a carry would make a zero of it.
        noise = torch.where(flat.isfinite(), noise, 0)
    flat.view(torch.int32).add_(noise).bitwise_and_(-(2**16))
    torch._foreach_copy_(targets, parts)
