"""What a recipe leaves to the plan (`auto`), decided with a reason that is shown."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainer import ranks
from trainer.config.engine import Offload
from trainer.config.optimizer_rules import torchs_own
from trainer.config.recipe import Recipe
from trainer.plan.deepspeed_json import stage_of

State = Callable[[str, int], int]
"""Bytes a device that an engine's state takes at a ZeRO stage."""
MOST_STATE = 0.6
"""The share of a device that state may take; the rest is for activations, buffers and the allocator's gaps."""
NAMED = "as the recipe says"
"""The reason of a choice that the user made."""


@dataclass(frozen=True)
class Choice:
    """A key, the value it got, and why."""

    key: str
    value: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.key}: {self.value} ({self.reason})"


def choose_processes(recipe: Recipe, devices: int) -> Choice:
    """Processes on each node."""
    if recipe.launch.processes != "auto":
        return Choice("launch.processes", recipe.launch.processes, NAMED)
    if devices:
        return Choice("launch.processes", devices, "one for each CUDA device")
    return Choice("launch.processes", 1, "no CUDA device: one process uses all cores")


def choose_engine(recipe: Recipe, processes: int, state: State | None, room: int | None) -> list[Choice]:
    """The engine and its ZeRO stage.

    `state` gives the bytes a device that an engine's state takes at a stage, `room` the bytes that a device has; None
    where unknown.
    """
    stage, engine = stage_of(recipe), recipe.engine
    if engine.kind == "torch":
        return _torch(NAMED)
    needs = engine.deepspeed is not None or engine.offload != "none" or stage is not None
    if key := torchs_own(recipe):
        return _torch(f"{key} is torch's")
    if engine.kind == "auto" and not needs:
        if processes == 1:
            return _torch("one process needs no sharing out")
        if state is not None and room is not None and state("torch", 0) <= MOST_STATE * room:
            return _torch(f"{shown(state('torch', 0))} of state fit a device of {shown(room)} well")
    if engine.kind == "deepspeed":
        kind = Choice("engine.kind", "deepspeed", NAMED)
    elif needs:
        kind = Choice("engine.kind", "deepspeed", "the recipe names a ZeRO stage, offload or a DeepSpeed configuration")
    else:
        kind = Choice("engine.kind", "deepspeed", f"{processes} processes can share the state out")
    return [kind, _choose_zero(stage, recipe, state, room)]


def _choose_zero(stage: int | None, recipe: Recipe, state: State | None, room: int | None) -> Choice:
    if stage is not None:
        return Choice("engine.zero", stage, NAMED)
    wanted = recipe.engine.offloaded(3)
    if isinstance(recipe.engine.offload, Offload) and wanted.parameters != "none":
        return Choice("engine.zero", 3, "only stage 3 keeps weights on the host")
    if "nvme" in (wanted.optimizer, wanted.parameters):
        return Choice("engine.zero", 3, "only stage 3 goes to a drive")
    if state is None or room is None:
        return Choice("engine.zero", 2, "shares optimizer state and gradients out at the traffic of plain replicas")
    for zero in (1, 2, 3):
        held = state("deepspeed", zero)
        if held <= MOST_STATE * room:
            reason = f"the lowest stage whose state ({shown(held)}) fits a device of {shown(room)} well"
            return Choice("engine.zero", zero, reason)
    reason = f"even its state of {shown(held)} is much for a device of {shown(room)}; see engine.offload"
    return Choice("engine.zero", 3, reason)


def _torch(reason: str) -> list[Choice]:
    return [Choice("engine.kind", "torch", reason), Choice("engine.zero", 0, "plain torch shares nothing out")]


def shown(size: float) -> str:
    """A size as it stands in a reason."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**29 else f"{size / 2**20:,.1f} MiB"


_CODE = {
    "adamw_8bit": "adamw_8bit of bitsandbytes",
    "lion": "lion of bitsandbytes",
    "adafactor": "torch's own adafactor",
    "muon": "torch's own muon for matrices inside layers, its fused adamw for the rest",
    "galore": "torch's own fused adamw, below a projection for matrices inside layers",
}
"""Where it is not torch's fused kernel, by `optimizer.kind`."""


def choose_optimizer_code(recipe: Recipe, engine: str, cuda: bool) -> Choice:
    """Whose code steps, and whether anything has to be compiled for it."""
    kind = recipe.optimizer.kind
    code = _CODE.get(kind, f"torch's own fused {kind}")
    if recipe.optimizer.paged:
        code = f"{kind} of bitsandbytes, its moments paged in"
    if engine == "deepspeed" and recipe.engine.offload != "none":
        return Choice(
            "optimizer.kind",
            f"{code} on the host's processor",
            "DeepSpeed's own Adam for the host would have to be compiled",
        )
    if engine == "deepspeed" and not cuda:
        missing = "" if ranks.compiler() else "no C++ compiler is found, and "
        return Choice(
            "optimizer.kind", f"{code} over gloo", f"{missing}DeepSpeed's compiled ops are not needed: nothing is built"
        )
    return Choice("optimizer.kind", code, "nothing has to be compiled")


def choose_for_steps(recipe: Recipe) -> list[Choice]:
    """What of a step is not as its keys say by themselves."""
    chosen = []
    if recipe.optimizer.in_backward and recipe.train.clip is not None:
        reason = "by the norm of the step before, since steps in the backward pass come before their own is known"
        chosen.append(Choice("train.clip", recipe.train.clip, reason))
    if recipe.train.checkpointing == "auto":
        chosen.append(Choice("train.checkpointing", "auto", "measured when the model is there"))
    return chosen
