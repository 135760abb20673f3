"""Heads of our own on a body of transformers, and how they are kept beside it.

A folder of such a model holds the body as transformers saves it, `heads.safetensors`, and `heads.json`, which says what
the outputs stand for.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

WEIGHTS, SETTINGS = "heads.safetensors", "heads.json"
PREFIX = "heads."
"""Where a task's module holds them."""


def write_heads(folder: Path, tensors: Mapping[str, torch.Tensor], settings: Mapping[str, Any]) -> None:
    """The entries of a module's state below PREFIX, and what the heads are for."""
    held = {name.removeprefix(PREFIX): tensor.contiguous() for name, tensor in tensors.items()}
    save_file(held, folder / WEIGHTS, {"format": "pt"})
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_settings(folder: Path) -> dict[str, Any]:
    """What the heads are for."""
    settings: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    return settings


def read_heads(folder: Path, heads: nn.ModuleDict) -> None:
    """Fills heads with the weights of a folder."""
    heads.load_state_dict(load_file(folder / WEIGHTS))


def new_head(inputs: int, outputs: int, spread: float, seed: int, dtype: torch.dtype) -> nn.Linear:
    """A linear layer as transformers begins its own heads: normal weights, no bias; equal wherever it is drawn."""
    head = nn.Linear(inputs, outputs)
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head.weight.normal_(std=spread, generator=drawn)
        head.bias.zero_()
    return head.to(dtype)
