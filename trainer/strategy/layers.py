"""The layers of a model in the order in which data flow through them, from the bottom to the top."""

from collections.abc import Sequence

from trainer.parameter import Parameter


class Layers:
    """All of them: those that see, those of an encoder, then the others."""

    def __init__(self, listed: Sequence[Parameter]) -> None:
        found = {(_order(one), one.stack or "", one.depth) for one in listed if one.depth is not None}
        self._numbers = {(stack, depth): number for number, (_, stack, depth) in enumerate(sorted(found))}

    def __len__(self) -> int:
        return len(self._numbers)

    def of(self, one: Parameter) -> int | None:
        """The number of a parameter's layer, from 0 at the bottom; None outside of any."""
        return None if one.depth is None else self._numbers.get((one.stack or "", one.depth))


def is_below(one: Parameter) -> bool:
    """Whether it is of the embeddings, which stand below the first layer."""
    return one.depth is None and (one.part == "embeddings" or (one.part == "norms" and "embed" in one.name.lower()))


def _order(one: Parameter) -> int:
    if one.sees:
        return 0
    return 1 if one.half == "encoder" else 2
