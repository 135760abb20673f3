"""The plan: every number that follows from a recipe, derived once and shown before the first step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from trainer import ranks
from trainer.config.log_rules import beyond_the_run
from trainer.config.recipe import Recipe
from trainer.errors import Problem, RecipeError
from trainer.parameter import Parameter
from trainer.plan import quantized, trainable
from trainer.plan.batch import BatchPlan, count_steps, plan_batch, steps_per_epoch, the_global_batch_divides
from trainer.plan.choices import NAMED, Choice, choose_engine, choose_for_steps, choose_optimizer_code, choose_processes
from trainer.plan.manifest import Manifest
from trainer.plan.memory import BYTES, StateMemory, state_memory
from trainer.plan.parameters import of_model


@dataclass(frozen=True)
class Plan:
    """What a run will do; frozen once the rows are counted."""

    batch: BatchPlan
    steps: int | None
    """Optimizer steps of the whole run; None where tokens fill them and are not counted yet."""
    steps_per_epoch: int | None
    """Those of the first pass; None for a stream too."""
    manifest: Manifest
    engine: str
    zero: int
    """The ZeRO stage; 0 for plain torch."""
    precision: str
    """What products are computed in."""
    parameters: int | None
    """Parameters of the model; None until its weights are here."""
    trainable: int | None
    memory: StateMemory | None
    choices: tuple[Choice, ...]
    """What the recipe left to the plan, and why it was chosen so."""
    largest: int | None = None
    """Numbers of the largest parameter."""

    def describe(self) -> str:
        """The plan in a few lines, as it is shown before the first step."""
        manifest = self.manifest
        train = "a stream of" if manifest.train_rows is None else f"{manifest.train_rows:,}"
        rows = f"{train} training rows, {manifest.validation_rows:,} for validation"
        if manifest.train_tokens is not None and manifest.train_targets is not None:
            share = manifest.train_targets / max(1, manifest.train_tokens)
            rows += f"; {manifest.train_tokens:,} tokens, {share:.0%} of them learned"
        rows += manifest.losses()
        processes = f"{self.batch.ranks} process{'es' if self.batch.ranks > 1 else ''}"
        engine = f"DeepSpeed ZeRO-{self.zero}" if self.engine == "deepspeed" else "torch"
        lines = [
            f"Data: {rows}",
            f"Batch: {self.batch.sentence()}; {self._steps_in_words()}",
            f"Engine: {engine}, {processes}, {self.precision} products",
        ]
        if self.parameters is not None:
            lines.append(f"Model: {self.parameters:,} parameters, {self.trainable:,} of them train")
        if self.memory is not None:
            parts = {
                "weights": self.memory.weights,
                "gradients": self.memory.gradients,
                "optimizer": self.memory.optimizer,
            }
            shown = " + ".join(f"{name} {_bytes(size)}" for name, size in parts.items())
            lines.append(f"Memory a device: {shown} = {_bytes(self.memory.total)}, activations besides")
        lines += [f"Chosen: {choice}" for choice in self.choices if choice.reason != NAMED]
        return "\n".join(lines)

    def with_choice(self, choice: Choice) -> "Plan":
        """The same plan with one more choice, in the place of an earlier one of its key."""
        others = tuple(other for other in self.choices if other.key != choice.key)
        return replace(self, choices=(*others, choice))

    def _steps_in_words(self) -> str:
        if self.steps is None:
            return "as many steps as the tokens fill"
        epoch = "" if self.steps_per_epoch is None else f" ({self.steps_per_epoch:,} an epoch)"
        return f"{self.steps:,} steps{epoch}"

    def to_json(self) -> dict[str, Any]:
        """The contract's plan.json; what is unknown is null."""
        return {
            "batch": self.batch.to_json(),
            "steps": self.steps,
            "steps_per_epoch": self.steps_per_epoch,
            "data": self.manifest.to_json(),
            "engine": {"kind": self.engine, "zero": self.zero, "precision": self.precision},
            "parameters": {"total": self.parameters, "trainable": self.trainable},
            "memory": {
                "device": self.memory.to_json() if self.memory else None,
                "host": self.memory.host_json() if self.memory else None,
            },
            "communication": {"bytes_per_step": None},
            "time": {"step_seconds": None, "tokens_per_second": None},
            "fits": None,
            "choices": [{"key": choice.key, "value": choice.value, "reason": choice.reason} for choice in self.choices],
        }


def check_batch(recipe: Recipe, processes: int | None = None, *, resuming: bool = False) -> None:
    """RecipeError where a run cannot share its work out; asked before rows are counted, which takes longer."""
    count = processes or recipe.launch.least_nodes * int(choose_processes(recipe, ranks.accelerators()).value)
    found = [second_shares_are_whole(recipe, count), *([] if resuming else [the_global_batch_divides(recipe, count)])]
    if problems := [problem for problem in found if problem]:
        raise RecipeError(problems)


def second_shares_are_whole(recipe: Recipe, processes: int) -> Problem | None:
    """Each group of ZeRO++ has as many processes as the others."""
    hpz = recipe.engine.hpz
    if hpz is None or processes % hpz == 0:
        return None
    return Problem("engine.hpz", f"{hpz} does not divide {processes} processes; set it to those of a node")


def make(
    recipe: Recipe,
    manifest: Manifest,
    *,
    vocabulary: int | None = None,
    processes: int | None = None,
    resuming: bool = False,
) -> Plan:
    """The plan of a recipe over counted rows; RecipeError where the numbers do not go together.

    `vocabulary` is the tokenizer's size where it is known already, `processes` the processes that really run.
    """
    chosen = [choose_processes(recipe, ranks.accelerators())]
    on_a_node = int(chosen[0].value)
    count = processes or recipe.launch.least_nodes * on_a_node
    check_batch(recipe, count, resuming=resuming)
    listed = of_model(recipe.model, vocabulary)
    parameters = trainable.counts(recipe, listed) if listed is not None else None
    batch = plan_batch(recipe, manifest, count)

    def state(engine: str, zero: int) -> StateMemory:
        assert parameters is not None and listed is not None
        return state_memory(
            parameters.total,
            parameters.trainable,
            dtype=recipe.model.dtype,
            optimizer=recipe.optimizer,
            engine=engine,
            zero=zero,
            ranks=count,
            offload=recipe.engine.offloaded(zero),
            trained=trainable.trained(recipe, listed),
            micro_batches=batch.accumulate or 2,
            weights=_stored(recipe, listed, parameters.total),
            hpz=recipe.engine.hpz,
            listed=listed,
        )

    known = (lambda engine, zero: state(engine, zero).total) if parameters is not None else None
    chosen += choose_engine(recipe, count, known, ranks.device_memory(min(count, on_a_node)))
    engine, zero = str(chosen[1].value), int(chosen[2].value)
    chosen.append(choose_optimizer_code(recipe, engine, cuda=ranks.accelerators() > 0))
    chosen += choose_for_steps(recipe)
    steps = count_steps(recipe, manifest)
    _check_steps(recipe, manifest, listed, steps, zero)
    return Plan(
        batch=batch,
        steps=steps,
        steps_per_epoch=steps_per_epoch(recipe, manifest),
        manifest=manifest,
        engine=engine,
        zero=zero,
        precision=_precision(recipe),
        parameters=parameters.total if parameters else None,
        trainable=parameters.trainable if parameters else None,
        memory=state(engine, zero) if parameters is not None else None,
        choices=tuple(chosen),
        largest=max((one.size for one in listed), default=None) if listed else None,
    )


def _precision(recipe: Recipe) -> str:
    """What products are computed in."""
    return recipe.model.dtype if recipe.train.precision == "auto" else recipe.train.precision


def _bytes(size: int) -> str:
    """A size with a unit, such as `1.5 GiB`."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size / 2**10:,.1f} KiB"


def _stored(recipe: Recipe, listed: Sequence[Parameter], total: int) -> int | None:
    """Bytes of a quantized base and what is added to it; None where all weights are stored alike."""
    if recipe.model.quantization == "none":
        return None
    size = BYTES[recipe.model.dtype]
    return quantized.nbytes(recipe.model, listed, size) + size * (total - sum(one.size for one in listed))


def _check_steps(
    recipe: Recipe, manifest: Manifest, listed: Sequence[Parameter] | None, steps: int | None, zero: int
) -> None:
    """RecipeError where something would come after the run, or not go through its phases."""
    found = [trainable.shares_are_carried(recipe, zero)]
    # Before the rows are shared out, the number of steps is an estimate.
    if manifest.epoch_steps is not None:
        found.append(beyond_the_run(recipe, steps))
    if listed:
        found.append(trainable.optimizer_is_used(recipe, listed))
    if steps and listed:
        found.append(trainable.phases_fit(recipe, listed, steps, steps_per_epoch(recipe, manifest)))
    if problems := [problem for problem in found if problem]:
        raise RecipeError(problems)
