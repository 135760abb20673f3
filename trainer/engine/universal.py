"""The form in which a state goes from one layout over processes to another: DeepSpeed's universal checkpoint.

state/zero/<parameter>/fp32.pt, exp_avg.pt, exp_avg_sq.pt   whole tensors, as {"param": tensor}
state/zero/<parameter>/step.pt                              the optimizer's own count of its steps
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

FOLDER = "state"
"""The tag of DeepSpeed's checkpoints: where in a folder the state lies."""
MOMENTS = ("exp_avg", "exp_avg_sq")
"""What Adam remembers of each weight."""

Named = tuple[str, torch.Tensor, torch.nn.Parameter]
"""A parameter's name, its weight, and what the optimizer steps in its place (its float32 master, or itself)."""


def place(folder: Path, name: str) -> Path:
    """Where the state of one parameter lies."""
    return folder / FOLDER / "zero" / name


def write(folder: Path, name: str, value: torch.Tensor, state: dict[str, Any]) -> None:
    """The whole state of one parameter: its value in full precision and its optimizer's state."""
    here = place(folder, name)
    here.mkdir(parents=True)
    torch.save({"param": value.float()}, here / "fp32.pt")
    for moment in MOMENTS:
        torch.save({"param": state[moment]}, here / f"{moment}.pt")
    torch.save(state["step"], here / "step.pt")


def read(folder: Path, name: str, part: str) -> torch.Tensor:
    """One tensor of one parameter, as it was laid out."""
    content = torch.load(place(folder, name) / f"{part}.pt", map_location="cpu", weights_only=True)
    tensor: torch.Tensor = content["param"] if isinstance(content, dict) else content
    return tensor


@torch.no_grad()
def load(folder: Path, parameters: Iterable[Named], optimizer: torch.optim.Optimizer) -> None:
    """Puts the state of each parameter where an optimizer over whole tensors keeps it."""
    for name, weight, stepped in parameters:
        value = read(folder, name, "fp32").view(weight.shape)
        stepped.copy_(value.view(stepped.shape))
        weight.copy_(value)
        moments = {part: read(folder, name, part).to(stepped).view(stepped.shape) for part in MOMENTS}
        optimizer.state[stepped] = {"step": read(folder, name, "step").to(stepped.device), **moments}
