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
    """Micro-batches a device computes for one step; an estimate where tokens decide it, None where lengths are
    unknown."""
    ranks: int
    """Devices over all nodes."""
    global_: int | None
    """Examples an optimizer step, over all devices; None where tokens fill it."""
    packing: bool
    """Whether the examples of a step stand end to end in flat rows."""
    micro_tokens: int
    """Tokens that one flat row may hold."""
    global_tokens: int | None = None
    """Tokens that an optimizer step holds at most, over all devices; None where examples are counted."""

    def sentence(self) -> str:
        """The arithmetic in words, such as `4 per device x 8 accumulate x 2 devices = 64 examples a step`."""
        devices = f"{self.ranks} device{'s' if self.ranks > 1 else ''}"
        step = f"{self.global_} examples" if self.global_tokens is None else f"at most {self.global_tokens:,} tokens"
        about = "" if self.accumulate is None else f"about {self.accumulate} "
        if self.packing:
            rows = f"{about}row{'' if self.accumulate == 1 else 's'} of at most {self.micro_tokens:,} tokens"
            return f"{step} a step, laid end to end in {rows} on each of {devices}"
        if self.global_tokens is None:
            return f"{self.micro} per device x {self.accumulate} accumulate x {devices} = {step} a step"
        batches = f"{about}micro-batch{'' if self.accumulate == 1 else 'es'} of at most {self.micro} examples"
        return f"{step} a step, in {batches} on each of {devices}"

    def to_json(self) -> dict[str, Any]:
        """The contract's `batch` object."""
        return {
            "micro": self.micro,
            "accumulate": self.accumulate,
            "accumulate_is_estimate": self.packing or self.global_tokens is not None,
            "ranks": self.ranks,
            "global": self.global_,
            "global_tokens": self.global_tokens,
            "packing": self.packing,
            "micro_tokens": self.micro_tokens if self.packing else None,
        }


def row_tokens(recipe: Recipe) -> int:
    """Tokens that one packed row may hold."""
    return recipe.batch.micro_tokens or recipe.batch.micro * recipe.data.max_length


def most_tokens(recipe: Recipe, manifest: Manifest) -> int:
    """Positions that no micro-batch exceeds, as far as the counted rows tell."""
    longest = manifest.longest or recipe.data.max_length
    if not recipe.data.packing:
        return recipe.batch.micro * longest
    examples = recipe.batch.global_
    return row_tokens(recipe) if examples is None else min(row_tokens(recipe), examples * longest)


def plan_batch(recipe: Recipe, manifest: Manifest, ranks: int) -> BatchPlan:
    """The batch arithmetic of a recipe on `ranks` devices."""
    batch, packing = recipe.batch, recipe.data.packing
    micro_tokens = row_tokens(recipe)
    mean = manifest.train_tokens / manifest.train_rows if manifest.train_tokens and manifest.train_rows else None
    tokens, examples = batch.global_tokens, batch.global_
    if packing:
        held = tokens if examples is None else mean and examples * mean
        micro_batches = held and held / micro_tokens
    else:
        held = examples if tokens is None else mean and tokens / mean
        micro_batches = held and held / batch.micro
    accumulate = None if micro_batches is None else max(1, math.ceil(micro_batches / ranks))
    return BatchPlan(batch.micro, accumulate, ranks, batch.global_, packing, micro_tokens, batch.global_tokens)


def the_global_batch_divides(recipe: Recipe, ranks: int) -> Problem | None:
    """Without packing, a new run shares the examples of a step out evenly; says which sizes it can."""
    whole = recipe.batch.micro * ranks
    given = recipe.batch.global_
    if recipe.data.packing or given is None or given % whole == 0:
        return None
    below, above = given // whole * whole, (given // whole + 1) * whole
    sizes = " or ".join(str(size) for size in (below, above) if size)
    packed = ", or set data.packing: true" if recipe.task.packs else ""
    return Problem(
        "batch.global",
        f"{given} examples a step cannot be shared out as {recipe.batch.micro} per device on {ranks} "
        f"device{'s' if ranks > 1 else ''}; it can be {sizes} (any multiple of {whole}){packed}",
    )


def steps_per_epoch(recipe: Recipe, manifest: Manifest) -> int | None:
    """Optimizer steps of the first epoch, whose last one may be short; None where only tokens or a stream can tell."""
    if manifest.epoch_steps:
        return manifest.epoch_steps[0]
    rows = manifest.train_rows if manifest.epoch_rows is None else manifest.epoch_rows
    if recipe.batch.global_ is not None and rows is not None:
        return math.ceil(rows / recipe.batch.global_)
    if recipe.batch.global_tokens is not None and rows and manifest.train_rows and manifest.train_tokens:
        tokens = manifest.train_tokens * rows / manifest.train_rows
        return math.ceil(tokens / recipe.batch.global_tokens)
    return None


def count_steps(recipe: Recipe, manifest: Manifest) -> int | None:
    """Optimizer steps of the whole run; None where only tokens can tell.

    Exact once the steps of each epoch are counted; before that an estimate. A part of a pass is rounded up to whole
    steps.
    """
    most, epochs = recipe.train.max_steps, recipe.train.epochs
    first = steps_per_epoch(recipe, manifest)
    if recipe.data.streaming or first is None:
        return most if recipe.data.streaming else None
    if manifest.epoch_steps is None:
        steps = math.ceil(epochs * first - 1e-9)
    else:
        whole, part = manifest.epoch_steps[: int(epochs)], manifest.epoch_steps[int(epochs) :]
        steps = sum(whole) + sum(math.ceil((epochs - int(epochs)) * last - 1e-9) for last in part)
    return min(max(1, steps), most or max(1, steps))
