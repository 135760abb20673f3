"""What a recipe leaves to the plan (`auto`), decided with a reason that is shown."""

from dataclasses import dataclass
from typing import Any

from trainer import ranks
from trainer.config.recipe import Recipe
from trainer.plan.deepspeed_json import stage_of

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


def choose_engine(recipe: Recipe, processes: int | None = None) -> list[Choice]:
    """The engine and its ZeRO stage."""
    count = processes or int(choose_processes(recipe, ranks.accelerators()).value)
    stage, named = stage_of(recipe), recipe.engine.kind
    if named == "torch" or (named == "auto" and count == 1 and stage is None):
        reason = NAMED if named == "torch" else "one process needs no sharing out"
        return [Choice("engine.kind", "torch", reason), Choice("engine.zero", 0, "plain torch shares nothing out")]
    if named == "deepspeed":
        kind = Choice("engine.kind", "deepspeed", NAMED)
    elif stage is not None:
        kind = Choice("engine.kind", "deepspeed", "the recipe names a ZeRO stage")
    else:
        kind = Choice("engine.kind", "deepspeed", f"{count} processes can share optimizer state out")
    if stage is not None:
        return [kind, Choice("engine.zero", stage, NAMED)]
    return [kind, Choice("engine.zero", 2, "shares optimizer state and gradients out at the traffic of plain replicas")]


def choose_optimizer_code(recipe: Recipe, engine: str, cuda: bool) -> Choice:
    """Whose Adam runs, and whether anything has to be compiled for it."""
    if engine == "deepspeed" and not cuda:
        missing = "" if ranks.compiler() else "no C++ compiler is found, and "
        return Choice(
            "optimizer.kind",
            f"torch's own fused {recipe.optimizer.kind} over gloo",
            f"{missing}DeepSpeed's compiled ops are not needed: nothing is built",
        )
    return Choice("optimizer.kind", f"torch's own fused {recipe.optimizer.kind}", "nothing has to be compiled")
