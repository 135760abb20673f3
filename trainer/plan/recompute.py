"""`train.checkpointing: auto`: as little computed again as a budget of memory allows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from trainer.plan.choices import Choice, shown

Kind = Literal["none", "selective", "full"]
"""What a layer keeps for its backward pass: all, its input and the results of matrix products, or its input."""

FILLED = 0.75
"""The share of a budget that is counted on: gaps in the heap and what an operation holds for a while take the rest."""


@dataclass(frozen=True)
class Held:
    """Bytes that one layer holds from its forward pass to its backward pass, by what it keeps."""

    none: int
    selective: int
    full: int

    def of(self, kind: Kind) -> int:
        """The bytes of a kind."""
        return {"none": self.none, "selective": self.selective, "full": self.full}[kind]

    def scaled(self, factor: float) -> "Held":
        """The same for a micro-batch that is so many times as large."""
        return Held(*(round(size * factor) for size in (self.none, self.selective, self.full)))


def choose(layers: Sequence[Held], rest: int, budget: int, filled: float = FILLED) -> tuple[list[Kind], Choice]:
    """What each layer keeps, and why; `rest` are the bytes of all else, of a budget so much is `filled`."""
    tried, room = 0, f"{filled:.0%} of {shown(budget)} may be filled"
    for kinds in _from_least(layers):
        tried = needed(layers, kinds) + rest
        if tried <= budget * filled:
            return kinds, Choice("train.checkpointing", _named(kinds), _reason(kinds, layers, rest, tried, room))
    way_out = "a smaller batch.micro or batch.micro_tokens helps"
    reason = f"even so {shown(tried)} are needed, and {room}: {way_out}"
    return list(kinds), Choice("train.checkpointing", "full", reason)


def needed(layers: Sequence[Held], kinds: Sequence[Kind]) -> int:
    """Bytes that all layers hold together at the end of a forward pass, and one that is computed again."""
    held = sum(layer.of(kind) for layer, kind in zip(layers, kinds, strict=True))
    again = [layer.none - layer.full for layer, kind in zip(layers, kinds, strict=True) if kind != "none"]
    return held + max(again, default=0)


def _from_least(layers: Sequence[Held]) -> Iterator[list[Kind]]:
    """Selective in more and more layers from the lowest that holds anything, then full in more and more."""
    live = [number for number, layer in enumerate(layers) if layer.none]
    kinds: list[Kind] = ["none"] * len(layers)
    yield list(kinds)
    for kind in ("selective", "full"):
        for number in live:
            kinds[number] = kind
            yield list(kinds)


def _named(kinds: Sequence[Kind]) -> str:
    counts = {kind: kinds.count(kind) for kind in ("full", "selective") if kind in kinds}
    if not counts:
        return "none"
    if len(set(kinds)) == 1:
        return kinds[0]
    return ", ".join(f"{kind} in {count} of {len(kinds)} layers" for kind, count in counts.items())


def _reason(kinds: Sequence[Kind], layers: Sequence[Held], rest: int, need: int, room: str) -> str:
    if set(kinds) == {"none"}:
        return f"{shown(need)} are needed, and {room}"
    without = needed(layers, ["none"] * len(layers)) + rest
    return f"{shown(without)} would be needed without, {shown(need)} are so, and {room}"
