"""Batch arithmetic: how many examples a step, and how they are laid out over processes."""

import math
from dataclasses import dataclass
from typing import Any

from trainer.config.recipe import Recipe
from trainer.errors import Problem
from trainer.plan.manifest import Manifest


@dataclass(frozen=True)
class BatchPlan:
    """The examples of one optimizer step."""

    micro: int
    """Examples a device computes at a time (the room for them, where rows are packed)."""
    accumulate: int | None
    """Micro-batches a device computes for one step; an estimate where rows are packed, None
    where lengths are unknown."""
    ranks: int
    """Devices over all nodes."""
    global_: int
    """Examples an optimizer step, over all devices."""
    packing: bool
    """Whether the examples of a step stand end to end in flat rows."""
    micro_tokens: int
    """Tokens that one flat row may hold."""

    def sentence(self) -> str:
        """The arithmetic in words, such as `4 per device x 8 accumulate x 2 devices = 64 examples a step`."""
        devices = f"{self.ranks} device{'s' if self.ranks > 1 else ''}"
        if not self.packing:
            return (
                f"{self.micro} per device x {self.accumulate} accumulate x {devices} = {self.global_} examples a step"
            )
        rows = "rows" if self.accumulate is None else f"about {self.accumulate} row{'s' if self.accumulate > 1 else ''}"
        return (
            f"{self.global_} examples a step, laid end to end in {rows} of at most {self.micro_tokens:,} tokens "
            f"on each of {devices}"
        )

    def to_json(self) -> dict[str, Any]:
        """The contract's `batch` object."""
        return {
            "micro": self.micro,
            "accumulate": self.accumulate,
            "accumulate_is_estimate": self.packing,
            "ranks": self.ranks,
            "global": self.global_,
            "packing": self.packing,
            "micro_tokens": self.micro_tokens if self.packing else None,
        }


def plan_batch(recipe: Recipe, manifest: Manifest, ranks: int) -> BatchPlan:
    """The batch arithmetic of a recipe on `ranks` devices."""
    batch = recipe.batch
    micro_tokens = batch.micro_tokens or batch.micro * recipe.data.max_length
    if not recipe.data.packing:
        accumulate: int | None = math.ceil(batch.global_ / (batch.micro * ranks))
    elif manifest.train_tokens is None or manifest.train_rows == 0:
        accumulate = None
    else:
        tokens = batch.global_ * manifest.train_tokens / manifest.train_rows
        accumulate = max(1, math.ceil(tokens / (micro_tokens * ranks)))
    return BatchPlan(batch.micro, accumulate, ranks, batch.global_, recipe.data.packing, micro_tokens)


def the_global_batch_divides(recipe: Recipe, ranks: int) -> Problem | None:
    """Without packing, a new run shares the examples of a step out evenly; says which sizes it can."""
    whole = recipe.batch.micro * ranks
    given = recipe.batch.global_
    if recipe.data.packing or given % whole == 0:
        return None
    below, above = given // whole * whole, (given // whole + 1) * whole
    sizes = " or ".join(str(size) for size in (below, above) if size)
    return Problem(
        "batch.global",
        f"{given} examples a step cannot be shared out as {recipe.batch.micro} per device on {ranks} "
        f"device{'s' if ranks > 1 else ''}; it can be {sizes} (any multiple of {whole}), or set data.packing: true",
    )


def count_steps(recipe: Recipe, rows: int) -> int:
    """Optimizer steps of the whole run; the last step of an epoch may hold fewer examples."""
    steps = max(1, math.ceil(recipe.train.epochs * math.ceil(rows / recipe.batch.global_) - 1e-9))
    return min(steps, recipe.train.max_steps) if recipe.train.max_steps else steps
