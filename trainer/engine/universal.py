"""The form in which a state goes from one layout over processes to another: DeepSpeed's universal checkpoint.

state/zero/<parameter>/fp32.pt, exp_avg.pt, exp_avg_sq.pt   whole tensors, as {"param": tensor}
state/zero/<parameter>/step.pt                              the optimizer's own count of its steps
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from trainer.optim import eight_bit
from trainer.optim.elementwise import MOMENTS
from trainer.optim.stepper import Stepper

FOLDER = "state"
"""The tag of DeepSpeed's checkpoints: where in a folder the state lies."""

ONE_LAYOUT = "only Adam's moments go from one to another; set engine and processes back"
"""Why a state cannot be brought into this form."""
Named = tuple[str, torch.Tensor]
"""A parameter's name and its weight."""


def place(folder: Path, name: str) -> Path:
    """Where the state of one parameter lies."""
    return folder / FOLDER / "zero" / name


def write(folder: Path, name: str, value: torch.Tensor, state: dict[str, Any]) -> None:
    """The whole state of one parameter: its value in full precision and its optimizer's state; RuntimeError where that
    is not Adam's.
    """
    if not state.keys() >= {*MOMENTS}:
        raise RuntimeError(ONE_LAYOUT)
    here = place(folder, name)
    here.mkdir(parents=True)
    torch.save({"param": value.float()}, here / "fp32.pt")
    for moment in MOMENTS:
        torch.save({"param": eight_bit.moment(state, moment)}, here / f"{moment}.pt")
    torch.save(state["step"], here / "step.pt")


def read(folder: Path, name: str, part: str) -> torch.Tensor:
    """One tensor of one parameter, as it was laid out."""
    content = torch.load(place(folder, name) / f"{part}.pt", map_location="cpu", weights_only=True)
    tensor: torch.Tensor = content["param"] if isinstance(content, dict) else content
    return tensor


@torch.no_grad()
def load(folder: Path, parameters: Iterable[Named], optimizer: torch.optim.Optimizer) -> None:
    """Puts the state of each parameter where an optimizer over whole tensors keeps it.

    `parameters` come in the order of the optimizer, which may step a float32 copy in place of a weight.
    """
    stepped = ((group, one) for group in optimizer.param_groups for one in group["params"])
    for (name, weight), (group, one) in zip(parameters, stepped, strict=True):
        parts = {part: read(folder, name, part) for part in ("fp32", *MOMENTS, "step")}
        weight.copy_(parts["fp32"].view(weight.shape))
        if isinstance(optimizer, Stepper):
            optimizer.put_whole(one, group, parts)
            continue
        one.copy_(parts["fp32"].view(one.shape))
        moments = {part: parts[part].to(one).view(one.shape) for part in MOMENTS}
        optimizer.state[one] = {"step": parts["step"].to(one.device), **moments}
