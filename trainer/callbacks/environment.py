"""`environment.json`: what the run was made with."""

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from trainer import __version__, ranks
from trainer.plan.files import write_json

_PACKAGES = ("torch", "transformers", "deepspeed", "peft", "tokenizers", "safetensors", "numpy", "tensorboard")


def write(folder: Path, device: torch.device) -> None:
    """Versions and hardware of rank 0."""
    content: dict[str, Any] = {
        "shardtune": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "cores": ranks.cores(),
        "threads": torch.get_num_threads(),
        "ranks": ranks.world_size(),
    }
    write_json(folder / "environment.json", content)


def _version(package: str) -> str | None:
    """The installed version; asked by name, because listing all that is installed takes half a second."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
