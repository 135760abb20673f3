"""What DeepSpeed saved, brought into the form that goes from one layout over processes to another."""

import argparse
import contextlib
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from trainer.engine import universal
from trainer.optim.eight_bit import SCALE
from trainer.optim.elementwise import MOMENTS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the import itself warns about torch.jit and pkg_resources
    from deepspeed.checkpoint import ds_to_universal

ONE_LAYOUT = "8-bit moments that DeepSpeed shares out go on with the same processes and stage only; set them back"
NAMES = "shardtune_names"
"""In stage 0's file: the names of the trained parameters in the optimizer's order."""


def convert(folder: Path, target: Path, zero: int) -> None:
    """Brings what a `DeepSpeedEngine` of stage `zero` saved into the universal form. DeepSpeed cuts out weights and
    moments alone: what Kahan compensation keeps beside a weight is rounded off once.
    """
    if zero == 0:
        _convert_stage_0(folder, target)
        return
    if problem := _problem(folder):
        raise RuntimeError(problem)
    arguments = argparse.Namespace(
        input_folder=str(folder / universal.FOLDER),
        output_folder=str(target / universal.FOLDER),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with contextlib.redirect_stdout(sys.stderr):
        ds_to_universal.main(arguments)
    if zero == 3:
        # Where the other stages keep one count of steps beside each parameter, stage 3 keeps one for all.
        common = torch.load(universal.place(target, "optimizer_state.pt"), map_location="cpu", weights_only=False)
        step = common["optimizer_state_dict"]["state"][0]["step"]
        for tensor in universal.place(target, "").glob("*/fp32.pt"):
            _wrap(tensor.parent, step)


def _problem(folder: Path) -> str | None:
    """Why DeepSpeed's converter cannot cut a stage's files; it knows no scales of moments in 8 bits."""
    file = next((folder / universal.FOLDER).glob("*optim_states.pt"))
    saved = torch.load(file, map_location="cpu", weights_only=False, mmap=True)["optimizer_state_dict"]
    inner = saved.get("base_optimizer_state", saved.get("optimizer_state_dict", {}))
    kept = [state.keys() for state in inner["state"].values()] if isinstance(inner, dict) else []
    if any(f"{MOMENTS[0]}{SCALE}" in names for names in kept):
        return ONE_LAYOUT
    return None if all(names >= {*MOMENTS} for names in kept) else universal.ONE_LAYOUT


def _wrap(here: Path, step: Any) -> None:
    """Stage 3 writes bare tensors, which the other stages do not read."""
    for part in ("fp32", *MOMENTS):
        torch.save({"param": torch.load(here / f"{part}.pt", weights_only=True)}, here / f"{part}.pt")
    torch.save(step, here / "step.pt")


def _convert_stage_0(folder: Path, target: Path) -> None:
    """Stage 0 keeps one optimizer over whole tensors; with weights in fewer bits, over their float32 copies."""
    saved = torch.load(folder / universal.FOLDER / "mp_rank_00_model_states.pt", map_location="cpu", weights_only=False)
    optimizer, names = saved["optimizer"], saved[NAMES]
    copies = [copy for group in optimizer.get("fp32_groups", []) for copy in group]
    states = optimizer.get("optimizer_state_dict", optimizer)["state"]
    for index, name in enumerate(names):
        universal.write(target, name, copies[index] if copies else saved["module"][name], states[index])
