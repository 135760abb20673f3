"""What LoRA's two matrices begin as, where it is neither chance nor zero.

PiSSA (Meng et al. 2024, arXiv 2404.02948) and OLoRA (Büyükakyüz 2024, arXiv 2406.01775) take a part of the weights out
and train it, so that the weights below are others. What is saved is the difference to what was taken out, of twice the
rank, and stands on the weights as they were.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from trainer import ranks
from trainer.adapter.adapted import Tensors
from trainer.config.model import Model
from trainer.data.batches import Batch
from trainer.errors import Problem, RecipeError
from trainer.kernels.vendor import bitsandbytes
from trainer.plan import pretrained
from trainer.plan.adapter_parameters import is_transposed

BY_PEFT = {"default": True, "pissa": "pissa_niter_16", "olora": "olora", "loftq": True, "eva": True}
"""What peft calls the starts; loftq and eva come afterwards."""
MOST_TOKENS = 512
"""Of a micro-batch, whose inputs eva looks at."""
_A, _B = "lora_A", "lora_B"


def keep(model: nn.Module) -> None:
    """Keeps beside each layer what was taken out of it, so that checkpoints hold it."""
    for module in _layers(model).values():
        for name in (_A, _B):
            module.register_buffer(f"begun_{name}", getattr(module, name)["default"].weight.detach().clone())


def less_the_start(model: nn.Module, config: Any, state: Tensors) -> Tensors:
    """The entries of a file whose products are what was trained less what was taken out; `config` is told so."""
    found = {}
    for name, module in _layers(model).items():
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
    for name, module in _layers(model).items():
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


@torch.no_grad()
def look(module: nn.Module, batches: Sequence[Batch], device: torch.device) -> None:
    """EVA (Paischer et al. 2024, arXiv 2410.07170; ranks stay as they are): A begins as the largest right singular
    vectors of what enters each target, over all micro-batches; all ranks call it, and rank 0's are everybody's.
    """
    layers = [one for one in _layers(module).values() if one.lora_A["default"].weight.requires_grad]
    if ranks.is_main():
        seen: dict[int, torch.Tensor] = {}
        for batch in batches:
            _look_at(module, batch.to(device), layers, seen)
        found = [_directions(layer, seen.get(index)) for index, layer in enumerate(layers)]
    for layer, one in zip(layers, ranks.broadcast(found if ranks.is_main() else None), strict=True):
        layer.lora_A["default"].weight.copy_(one)


def _look_at(module: nn.Module, batch: Batch, layers: Sequence[Any], seen: dict[int, torch.Tensor]) -> None:
    """Adds what enters layers to the singular vectors, each times its value, of what entered them before: [R, in]."""
    mask = None if batch.attention_mask is None else batch.attention_mask.bool()

    def add(index: int, layer: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        given = inputs[0]
        # Of padded rows the tokens alone.
        rows = given[mask] if mask is not None and given.shape[:2] == mask.shape else given.flatten(0, -2)
        held = seen.get(index)
        own = rows[:MOST_TOKENS].float()
        _, values, right = torch.linalg.svd(own if held is None else torch.cat([held, own]), full_matrices=False)
        seen[index] = values[: layer.r["default"], None] * right[: layer.r["default"]]

    hooks = [layer.register_forward_pre_hook(partial(add, index)) for index, layer in enumerate(layers)]
    training = module.training
    module.eval()
    try:
        module(batch)
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()


def _directions(layer: Any, seen: torch.Tensor | None) -> torch.Tensor:
    """[R, in] of length 1; what was drawn stays where fewer tokens came by than there are ranks."""
    weight: torch.Tensor = layer.lora_A["default"].weight.detach().cpu().clone()
    if seen is not None:
        weight[: len(seen)] = (seen / seen.norm(dim=1, keepdim=True).clamp(min=1e-12)).to("cpu", weight.dtype)
    return weight


def _opened(file: Path) -> Any:
    return safe_open(file, "pt")


def _layers(model: nn.Module) -> dict[str, Any]:
    """Peft's layers with two matrices beside a linear one, by name."""
    return {name: module for name, module in model.named_modules() if "default" in getattr(module, _A, ())}
