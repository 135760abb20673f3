"""What a recipe asks of this machine that it does not have."""

import ctypes.util
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from trainer.config.recipe import Recipe
from trainer.errors import Problem
from trainer.plan import deepspeed_source


def problems(recipe: Recipe, devices: int) -> list[Problem]:
    """What a machine with so many CUDA devices lacks."""
    return [
        *_numbers(recipe, devices),
        *_attention(recipe, devices),
        *_drives(recipe),
        *_quantized_messages(recipe, devices),
    ]


def _numbers(recipe: Recipe, devices: int) -> Iterator[Problem]:
    """Numbers that only a device computes in."""
    wanted = {"model.dtype": recipe.model.dtype, "train.precision": recipe.train.precision}
    message = "float16 needs a CUDA device, and there is none; set it to bfloat16 or float32"
    for key, number in wanted.items():
        if number == "float16" and not devices:
            yield Problem(key, message)


def _attention(recipe: Recipe, devices: int) -> Iterator[Problem]:
    """Kernels that only a device has, and the packages that they come from."""
    wanted = recipe.model.attention
    if wanted not in ("flash", "flex"):
        return
    if not devices:
        yield Problem("model.attention", f"{wanted} needs a CUDA device, and there is none; set it to segments or auto")
    elif wanted == "flex" and importlib.util.find_spec("triton") is None:
        yield Problem("model.attention", "flex needs the package triton; pip install triton, or set it to auto")


def _drives(recipe: Recipe) -> Iterator[Problem]:
    """Folders that DeepSpeed offloads to, and what it reads and writes them with."""
    source = deepspeed_source.read(recipe.engine.deepspeed)
    folders = dict[str, str]()
    wanted = recipe.engine.offloaded(3)
    if "nvme" in (wanted.optimizer, wanted.parameters):
        folders["engine.nvme"] = str(recipe.engine.nvme)
    elif source is not None:
        for section in ("offload_optimizer", "offload_param"):
            if source.get(f"zero_optimization.{section}.device") == "nvme":
                path = f"zero_optimization.{section}.nvme_path"
                folders[source.problem(path, "").where] = str(source.get(path))
    for where, name in folders.items():
        folder = Path(name)
        if not folder.is_dir():
            yield Problem(where, f"there is no folder {folder}; make it on the drive, or name another")
        elif not os.access(folder, os.W_OK):
            yield Problem(where, f"{folder} cannot be written to; name another folder")
    if folders and ctypes.util.find_library("aio") is None:
        message = "nvme needs the library libaio, which is not found; apt install libaio-dev, or offload to cpu"
        yield Problem(next(iter(folders)), message)


def _quantized_messages(recipe: Recipe, devices: int) -> Iterator[Problem]:
    """Kernels of ZeRO++ that only a device has."""
    for key in ("quantized_weights", "quantized_gradients"):
        if getattr(recipe.engine, key) and not devices:
            yield Problem(f"engine.{key}", "needs kernels for a CUDA device, and there is none; leave it out")
