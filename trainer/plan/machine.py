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
    return [*_numbers(recipe, devices), *_attention(recipe, devices), *_drives(recipe)]


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
    asked = False
    for section in ("offload_optimizer", "offload_param"):
        path = f"zero_optimization.{section}.nvme_path"
        if source is None or source.get(f"zero_optimization.{section}.device") != "nvme":
            continue
        asked, folder = True, Path(str(source.get(path)))
        if not folder.is_dir():
            yield source.problem(path, f"there is no folder {folder}; make it on the drive, or name another")
        elif not os.access(folder, os.W_OK):
            yield source.problem(path, f"{folder} cannot be written to; name another folder")
    if source is not None and asked and ctypes.util.find_library("aio") is None:
        message = "device nvme needs the library libaio, which is not found; apt install libaio-dev, or offload to cpu"
        yield source.problem("zero_optimization", message)
