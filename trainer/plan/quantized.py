"""Bytes of weights of which some are stored in 4 or 8 bits, as bitsandbytes lays them out; without torch."""

from collections.abc import Sequence

from trainer.config.adapter import Lora
from trainer.config.model import Model
from trainer.config.recipe import Recipe
from trainer.errors import Problem
from trainer.parameter import Parameter
from trainer.plan import parameters, pretrained

BLOCK, OF_SCALES = 64, 256
"""Values that share a scale in 4 bits, and scales that share one of their own with double quantization."""
_CODE = 16 * 4
"""Bytes of the values that 4 bits stand for, which each weight keeps."""
_SCALES_CODE = 256 * 4 + 4
"""The same of scales in 8 bits, and their mean."""
_WIDE = ("head", "embeddings", "norms", "pooler")


def problems(recipe: Recipe) -> list[Problem]:
    """Where a base was saved in fewer bits than the recipe says, or in others, as far as this machine can see."""
    model = recipe.model
    if model.name is None or parameters.problems(model):
        return []
    kind, double = saved(model)
    if kind == "none":
        return []
    where = "model.quantization"
    if kind not in ("nf4", "fp4", "int8"):
        message = f"{model.name} was saved in {kind}, which does not train here; name what it was made of"
        return [Problem(where, message)]
    if model.quantization != kind:
        return [Problem(where, f"is {model.quantization}, and {model.name} was saved in {kind}; set it to {kind}")]
    if model.double_quantization != double:
        own = "true" if double else "false"
        message = f"{model.name} was saved {'with' if double else 'without'} it; set it to {own}"
        return [Problem("model.double_quantization", message)]
    if isinstance(recipe.adapter, Lora) and recipe.adapter.start == "loftq":
        message = f"loftq looks at whole weights, and {model.name} was saved in {kind}; set it to default"
        return [Problem("adapter.start", message)]
    return []


def saved(model: Model) -> tuple[str, bool]:
    """How the base lies on the disk, as `pretrained.stored` tells; none where it lies on no disk yet."""
    folder = pretrained.folder(model)
    return ("none", False) if folder is None else pretrained.stored(folder)


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
