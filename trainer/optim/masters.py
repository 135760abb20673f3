"""How the value of a weight that is stored in bfloat16 survives updates smaller than its last bit.

float32     a float32 copy is stepped, and rounded into the weight
kahan       the weight's rounding error is kept beside it in bfloat16, and stepped with it (Kahan 1965)
stochastic  each update is rounded up or down by chance, right on average (Gupta et al. 2015, arXiv 1502.02551)
none        the weight is stepped as it is
"""

from typing import Any, Protocol

import torch

from trainer.optim.pieces import Flat, Piece, Scratch
from trainer.optim.rounding import round_into

State = dict[str, Any]
"""What an optimizer keeps of one weight."""
Chunk = list[tuple[Piece, State]]
"""Pieces with the state of their weights."""


class Master(Protocol):
    """Hands values out to be stepped in place, and takes them back."""

    def moments(self, weight: torch.Tensor) -> torch.dtype:
        """How the moments beside a weight are stored."""

    def begin(self, weight: torch.Tensor, state: State, value: torch.Tensor) -> None:
        """Adds to a weight's state what keeps `value`, which may have more bits than the weight."""

    def take(self, chunk: Chunk, scratch: Scratch) -> Flat | list[torch.Tensor]:
        """Values of a chunk, to be stepped in place."""

    def put(self, chunk: Chunk, values: Any, scratch: Scratch, noise: torch.Tensor | None) -> None:
        """The same values after the step."""


class Own:
    """The weight itself is stepped."""

    def moments(self, weight: torch.Tensor) -> torch.dtype:
        """As the weight is stored."""
        return weight.dtype

    def begin(self, weight: torch.Tensor, state: State, value: torch.Tensor) -> None:
        """Nothing is kept beside it."""

    def take(self, chunk: Chunk, scratch: Scratch) -> list[torch.Tensor]:
        """The weight."""
        return [piece.of(piece.weight) for piece, _ in chunk]

    def put(self, chunk: Chunk, values: list[torch.Tensor], scratch: Scratch, noise: torch.Tensor | None) -> None:
        """Nothing is left to do."""


class Float32:
    """A float32 copy is stepped."""

    def moments(self, weight: torch.Tensor) -> torch.dtype:
        """As the copy is stored."""
        return torch.float32

    def begin(self, weight: torch.Tensor, state: State, value: torch.Tensor) -> None:
        """The copy."""
        state["master"] = value.detach().to(torch.float32, copy=True)

    def take(self, chunk: Chunk, scratch: Scratch) -> list[torch.Tensor]:
        """The copy."""
        return [piece.of(state["master"]) for piece, state in chunk]

    def put(self, chunk: Chunk, values: list[torch.Tensor], scratch: Scratch, noise: torch.Tensor | None) -> None:
        """Rounds the copy into the weight."""
        torch._foreach_copy_([piece.of(piece.weight) for piece, _ in chunk], values)


class Kahan:
    """The weight and its rounding error are stepped together: 16 bits of a value's fraction are kept, in 4 bytes."""

    def moments(self, weight: torch.Tensor) -> torch.dtype:
        """bfloat16, rounded stochastically: rounded to the nearest, the second moment would never decay."""
        return torch.bfloat16

    def begin(self, weight: torch.Tensor, state: State, value: torch.Tensor) -> None:
        """The rounding error."""
        state["compensation"] = torch.zeros_like(weight)
        if value is not weight:
            state["compensation"].copy_(value.float() - weight.detach().float())

    def take(self, chunk: Chunk, scratch: Scratch) -> Flat:
        """Weight plus error, which float32 holds exactly."""
        values = scratch.filled("values", [piece.of(piece.weight) for piece, _ in chunk])
        values[0].add_(scratch.filled("rest", [piece.of(state["compensation"]) for piece, state in chunk])[0])
        return values

    def put(self, chunk: Chunk, values: Flat, scratch: Scratch, noise: torch.Tensor | None) -> None:
        """Rounds into the weight, and keeps what was lost."""
        weights = [piece.of(piece.weight) for piece, _ in chunk]
        torch._foreach_copy_(weights, values[1])
        values[0].sub_(scratch.filled("rest", weights)[0])
        torch._foreach_copy_([piece.of(state["compensation"]) for piece, state in chunk], values[1])


class Stochastic:
    """The weight alone is kept."""

    def moments(self, weight: torch.Tensor) -> torch.dtype:
        """bfloat16, rounded like the weight."""
        return torch.bfloat16

    def begin(self, weight: torch.Tensor, state: State, value: torch.Tensor) -> None:
        """Nothing is kept beside it."""

    def take(self, chunk: Chunk, scratch: Scratch) -> Flat:
        """The weight in float32."""
        return scratch.filled("values", [piece.of(piece.weight) for piece, _ in chunk])

    def put(self, chunk: Chunk, values: Flat, scratch: Scratch, noise: torch.Tensor | None) -> None:
        """Rounds up or down by chance."""
        assert noise is not None, "stochastic rounding needs random bits"
        round_into([piece.of(piece.weight) for piece, _ in chunk], values, noise)


MASTERS: dict[str, Master] = {"float32": Float32(), "kahan": Kahan(), "stochastic": Stochastic(), "none": Own()}
"""By `optimizer.master`; a float32 weight is its own."""


def of_weight(weight: torch.Tensor, master: str) -> Master:
    """How the value of one weight is kept."""
    return MASTERS["none" if weight.dtype == torch.float32 else master]


def value(weight: torch.Tensor, state: State) -> torch.Tensor:
    """The whole value of a weight in float32, with the bits that its state holds."""
    if "master" in state:
        kept: torch.Tensor = state["master"]
        return kept
    if "compensation" in state:
        rest: torch.Tensor = state["compensation"]
        return weight.detach().float() + rest
    return weight.detach().float()
