"""What LoRA's two matrices begin as, where it is neither chance nor zero.

PiSSA (Meng et al. 2024, arXiv 2404.02948) and OLoRA (Büyükakyüz 2024, arXiv 2406.01775) take a part of the weights out
and train it, so that the weights below are others. What is saved is the difference to what was taken out, of twice the
rank, and stands on the weights as they were.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from trainer.adapter.adapted import Tensors
from trainer.config.model import Model
from trainer.errors import Problem, RecipeError
from trainer.kernels.vendor import bitsandbytes
from trainer.plan import pretrained
from trainer.plan.adapter_parameters import is_transposed

BY_PEFT = {"default": True, "pissa": "pissa_niter_16", "olora": "olora", "loftq": True}
"""What peft calls the starts; it makes up for quantization afterwards."""
_A, _B = "lora_A", "lora_B"


def keep(model: nn.Module) -> None:
    """Keeps beside each layer what was taken out of it, so that checkpoints hold it."""
    for module in _layers(model):
        for name in (_A, _B):
            module.register_buffer(f"begun_{name}", getattr(module, name)["default"].weight.detach().clone())


def less_the_start(model: nn.Module, config: Any, state: Tensors) -> Tensors:
    """The entries of a file whose products are what was trained less what was taken out; `config` is told so."""
    found = {}
    for name, module in model.named_modules():
        if not hasattr(module, f"begun_{_A}"):
            continue
        for one, sign, dim in ((_A, 1, 0), (_B, -1, 1)):
            key = f"base_model.model.{name}.{one}.weight"
            begun = sign * getattr(module, f"begun_{one}").to("cpu", state[key].dtype)
            found[key] = torch.cat([state[key], begun], dim=dim)
    scale = 2**0.5 if config.use_rslora else 2
    config.r, config.lora_alpha, config.init_lora_weights = 2 * config.r, scale * config.lora_alpha, True
    config.rank_pattern = {name: 2 * rank for name, rank in config.rank_pattern.items()}
    config.alpha_pattern = {name: scale * alpha for name, alpha in config.alpha_pattern.items()}
    return {**state, **found}


@torch.no_grad()
def make_up(model: nn.Module, base: Model) -> None:
    """LoftQ (Li et al. 2023, arXiv 2310.08659; one round): the product begins as the largest singular directions of
    what a base in 4 bits lacks of the whole one.
    """
    whole = _Whole(base)
    for name, module in model.named_modules():
        if not hasattr(module, _A) or "default" not in getattr(module, _A):
            continue
        held = module.base_layer.weight
        stored = bitsandbytes().dequantize_4bit(held.data, held.quant_state).float()
        lacks = whole.weight(f"{name}.weight").to(stored.device).float()
        left, values, right = torch.linalg.svd(
            (lacks.T if is_transposed(name) else lacks) - stored, full_matrices=False
        )
        rank, roots = module.r["default"], values.sqrt()
        a, b = getattr(module, _A)["default"].weight, getattr(module, _B)["default"].weight
        a.copy_(roots[:rank, None] * right[:rank])
        b.copy_(left[:, :rank] * roots[:rank] / module.scaling["default"])


class _Whole:
    """The weights of a folder of transformers, one at a time."""

    def __init__(self, base: Model) -> None:
        """RecipeError where they lie in no safetensors files."""
        folder = pretrained.folder(base)
        files = sorted(folder.glob("*.safetensors")) if folder else []
        if not files:
            message = f"loftq reads whole weights from safetensors files, and {base.name} has none; set it to default"
            raise RecipeError([Problem("adapter.start", message)])
        self.files = {name: file for file in files for name in _opened(file).keys()}  # noqa: SIM118

    def weight(self, name: str) -> torch.Tensor:
        """By its name in the model, which older files know without that of the body."""
        own = next(one for one in (name, name.partition(".")[2]) if one in self.files)
        found: torch.Tensor = _opened(self.files[own]).get_tensor(own)
        return found


def _opened(file: Path) -> Any:
    return safe_open(file, "pt")


def _layers(model: nn.Module) -> list[Any]:
    """Peft's layers with two matrices beside a linear one."""
    return [module for module in model.modules() if hasattr(module, _A) and "default" in getattr(module, _A)]
