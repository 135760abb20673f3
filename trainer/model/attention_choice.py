"""Which attention a model takes: `model.attention` on this machine."""

import importlib.util

import torch
from transformers import PreTrainedModel

from trainer.errors import Problem, RecipeError
from trainer.model import flash_attention, flex_attention
from trainer.model.attention import SEGMENTS, Needs

KERNELS = {"segments": SEGMENTS, "flash": flash_attention.VARLEN, "flex": flex_attention.FLEX}
"""What packed rows may take, by its name in a recipe; the values are transformers' names."""


def choose(model: PreTrainedModel, wanted: str, dtype: torch.dtype, *, cuda: bool) -> str:
    """The kernel of packed rows, as transformers knows it; `dtype` is that of products.

    auto: on CUDA the flash kernel where the model can have it, else flex_attention; without either, example by example.
    """
    needs = Needs.of(model)
    reasons = {
        "flash": flash_attention.lacking(needs, dtype) if cuda else "needs a CUDA device",
        "flex": _flex_lacking(needs) if cuda else "has a backward pass on CUDA alone",
        "segments": None,
    }
    if wanted == "auto":
        return KERNELS[next(name for name in reasons if reasons[name] is None)]
    if reasons[wanted] is not None:
        others = [name for name in reasons if reasons[name] is None]
        raise RecipeError(
            [Problem("model.attention", f"{wanted} {reasons[wanted]}; set it to {', '.join(others)} or auto")]
        )
    return KERNELS[wanted]


def _flex_lacking(needs: Needs) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "needs the package triton"
    if needs.dropout:
        return "has no attention dropout, which this model asks for"
    if needs.head < flex_attention.LEAST:
        return f"takes heads of at least {flex_attention.LEAST}, and this model's have {needs.head}"
    return None
