"""Clipping by the norm of the whole gradient (Pascanu et al. 2013, arXiv 1211.5063), without a pass of its own."""

from collections.abc import Sequence

import torch

from trainer.optim.pieces import Scratch, chunks, room


def norm(gradients: Sequence[torch.Tensor], scratch: Scratch) -> torch.Tensor:
    """The norm of all gradients as one vector, a float32 scalar; read once.

    Piece by piece: torch adds up the squares of a tensor one after the other, and is off by 0.5 % for 64 M values. Of
    fewer bits each piece is widened in the scratch, where torch would make room for it anew.
    """
    norms: list[torch.Tensor] = []
    for dtype in dict.fromkeys(gradient.dtype for gradient in gradients):
        alike = [gradient for gradient in gradients if gradient.dtype == dtype]
        for chunk in chunks(alike, room(alike[0].device)):
            pieces = [piece.of(piece.weight) for piece in chunk]
            if dtype == torch.float32:
                norms += torch._foreach_norm(pieces)
            else:
                norms.append(torch.linalg.vector_norm(scratch.filled("gradients", pieces)[0]))
    return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())


def divisor(norm: torch.Tensor, limit: float | None) -> torch.Tensor | None:
    """What gradients are divided by so that their norm is at most `limit`; None where they stay as they are.

    On a GPU it is a tensor even where it is 1, so that nothing waits for its value.
    """
    if limit is None or (norm.device.type == "cpu" and float(norm) + 1e-6 <= limit):
        return None
    return ((norm + 1e-6) / limit).clamp(min=1.0)
