"""Bytes of weights of which some are stored in 4 or 8 bits, as bitsandbytes lays them out; without torch."""

from collections.abc import Sequence

from trainer.config.model import Model
from trainer.parameter import Parameter

BLOCK, OF_SCALES = 64, 256
"""Values that share a scale in 4 bits, and scales that share one of their own with double quantization."""
_CODE = 16 * 4
"""Bytes of the values that 4 bits stand for, which each weight keeps."""
_SCALES_CODE = 256 * 4 + 4
"""The same of scales in 8 bits, and their mean."""
_WIDE = ("head", "embeddings", "norms", "pooler")


def is_quantized(model: Model, one: Parameter) -> bool:
    """Whether a weight of a model is stored in fewer bits: that of a linear layer which is no head and not skipped."""
    if model.quantization == "none" or len(one.shape) != 2 or one.part in _WIDE or not one.name.endswith(".weight"):
        return False
    layer = one.name.removesuffix(".weight")
    return not any(layer.endswith(skipped) for skipped in model.quantization_skip)


def nbytes(model: Model, listed: Sequence[Parameter], size: int) -> int:
    """Of a base, `size` bytes a value of what is not quantized."""
    return sum(_of(model, one) if is_quantized(model, one) else size * one.size for one in listed)


def _of(model: Model, one: Parameter) -> int:
    if model.quantization == "int8":
        return one.size + 4 * one.shape[0]
    blocks = -(-one.size // BLOCK)
    scales = 4 * blocks
    if model.double_quantization:
        scales = blocks + 4 * -(-blocks // OF_SCALES) + _SCALES_CODE
    return -(-one.size // 2) + scales + _CODE
