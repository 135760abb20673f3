"""What an optimizer keeps of each weight, and how many bytes that takes; without torch."""

from collections.abc import Sequence

from trainer.config.optimizer import Optimizer
from trainer.parameter import Parameter

BLOCK = 256
"""Values that share a scale where moments are kept in 8 bits."""
LEAST_8BIT = 4096
"""Values of the smallest weight whose moments are worth 8 bits, the default of bitsandbytes."""
_FLOAT32 = 4


def form(settings: Optimizer, one: Parameter, *, embeds: bool) -> str:
    """By which rule a weight is stepped; `embeds` tells those of embeddings.

    Muon and GaLore are for the matrices inside layers, GaLore only where it makes them smaller; what is left has adamw.
    8 bits are not for embeddings, whose gradients are uneven (Dettmers et al. 2021, section 2.3), nor for small ones.
    """
    kind = settings.kind
    inside = one.depth is not None and len(one.shape) == 2
    if kind == "adamw_8bit":
        return "8bit" if one.size >= LEAST_8BIT and not embeds else _adamw(settings)
    if kind == "muon":
        return kind if inside else "adamw"
    if kind == "galore":
        return kind if inside and min(one.shape) > settings.galore.rank else "adamw"
    if kind == "sgd":
        return "momentum" if settings.momentum_or_default else "sgd"
    return _adamw(settings) if kind == "adamw" else kind


def _adamw(settings: Optimizer) -> str:
    return "paged" if settings.paged else "adamw"


def nbytes(settings: Optimizer, trainable: int, trained: Sequence[Parameter], copy: int) -> int:
    """Of all that trains: so many values, and where more than their number matters, each weight.

    `copy`: bytes of a value of what updates are added to.
    """
    known = sum(one.size for one in trained)
    left = trainable - known
    return sum(_of(settings, one, copy) for one in trained) + (_of_values(settings, left, copy) if left > 0 else 0)


def _of(settings: Optimizer, one: Parameter, copy: int) -> int:
    rule = form(settings, one, embeds=one.part == "embeddings")
    if rule == "8bit":
        return 2 * (one.size + -(-one.size // BLOCK) * _FLOAT32)
    if rule == "muon":
        return _FLOAT32 * one.size
    if rule == "galore":
        small, large = sorted(one.shape)
        return _FLOAT32 * settings.galore.rank * (2 * large + small)
    if rule == "adafactor" and len(one.shape) > 1:
        return _FLOAT32 * (one.size // one.shape[-1] + one.size // one.shape[-2])
    return _of_values(settings, one.size, copy)


def _of_values(settings: Optimizer, size: int, copy: int) -> int:
    """Where each value has moments of its own."""
    rounded = settings.master in ("kahan", "stochastic")
    if settings.kind == "sgd":
        return copy * size if settings.momentum_or_default else 0
    if settings.kind == "lion":
        return (copy if rounded else _FLOAT32) * size
    if settings.kind == "adafactor":
        return _FLOAT32 * size
    wide = settings.paged or (settings.kind == "adamw_8bit" and settings.master != "none")
    return 2 * (_FLOAT32 if wide else copy) * size
