"""A base whose linear layers are stored in 4 bits (Dettmers et al. 2023, arXiv 2305.14314) or 8 (Dettmers et al. 2022,
arXiv 2208.07339), by bitsandbytes through transformers.
"""

from typing import Any

import torch
from torch import nn

from trainer.config.recipe import Recipe
from trainer.plan import quantized

HEADS = ("lm_head", "score", "classifier", "classification_head", "qa_outputs", "cls", "embed_out", "pooler")
"""Names of heads, which are never quantized."""
_SWITCH = "support_avx512bf16_for_cpu"


def keys(recipe: Recipe) -> dict[str, Any] | None:
    """Those of transformers' BitsAndBytesConfig; None for a base in `model.dtype`, and for one that was saved in fewer
    bits, which knows its own.
    """
    model = recipe.model
    skipped = {"llm_int8_skip_modules": [*HEADS, *model.quantization_skip]}
    if model.quantization == "none" or quantized.saved(model)[0] != "none":
        return None
    if model.quantization == "int8":
        return {"load_in_8bit": True, **skipped}
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": model.quantization,
        "bnb_4bit_use_double_quant": model.double_quantization,
        "bnb_4bit_compute_dtype": model.dtype,
        **skipped,
    }


def loading(recipe: Recipe) -> dict[str, Any]:
    """What `from_pretrained` is told besides."""
    from transformers import BitsAndBytesConfig

    told = keys(recipe)
    return {} if told is None else {"quantization_config": BitsAndBytesConfig(**told)}


def mend(model: nn.Module) -> None:
    """Processors with bfloat16 products: in an evaluation bitsandbytes lays 4-bit weights out anew, and they hand no
    gradient on afterwards; here they stay as they are.
    """
    for module in model.modules():
        if hasattr(module, _SWITCH):
            setattr(module, _SWITCH, False)


def is_quantized(weight: torch.Tensor) -> bool:
    """Whether a weight is stored in 4 or 8 bits, by what bitsandbytes keeps beside it."""
    return getattr(weight, "quant_state", None) is not None or getattr(weight, "SCB", None) is not None


def rounds_inputs(module: nn.Module) -> bool:
    """Whether layers round what enters them too, by its largest values: those of 8 bits."""
    return any(weight.dtype == torch.int8 for weight in module.parameters())


def entries(module: nn.Module) -> set[str]:
    """The entries of a module's state that hold quantized weights, which are read from the base and never change."""
    held = [name for name, weight in module.named_parameters(remove_duplicate=False) if is_quantized(weight)]
    if not held:
        return set()
    layers = {name.rpartition(".")[0] for name in held}
    beside = tuple(f"{layer}.{name}" for layer in layers for name in ("SCB", "weight_format"))
    own = tuple(f"{name}." for name in held)
    return {entry for entry in module.state_dict() if entry in held or entry in beside or entry.startswith(own)}
