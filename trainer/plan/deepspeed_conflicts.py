"""Where the user's DeepSpeed configuration contradicts the recipe.

The recipe is the only place for what both can say; the JSON may repeat it, or write "auto".
"""

from collections.abc import Mapping
from typing import Any

from trainer.config.recipe import Recipe
from trainer.config.strategy import PHASED
from trainer.errors import Problem
from trainer.plan.deepspeed_source import Source

# What DeepSpeed must do for the loop, and why.
_OURS: tuple[tuple[str, Any, str], ...] = (
    ("managed_gradient_accumulation", True, "the training loop marks the last micro-batch itself"),
    ("gradient_allreduce_op", "mean", "the loss is scaled for a mean over processes"),
    ("zero_allow_untested_optimizer", True, "the optimizer is torch's own"),
    ("zero_force_ds_cpu_optimizer", False, "the optimizer is torch's own"),
)
# Ways to share out a step that the loop does not know.
_UNSUPPORTED = (
    "data_efficiency",
    "data_parallel_size",
    "expert_parallel",
    "hybrid_engine",
    "pipeline",
    "sequence_parallel_size",
    "tensor_parallel",
)
_SCHEDULERS = {"constant": "WarmupLR", "linear": "WarmupDecayLR", "cosine": "WarmupCosineLR"}
_NUMBERS = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "float": "float32"}


def conflicts(source: Source, recipe: Recipe, zero: int | None, ranks: int | None) -> list[Problem]:
    """Every value of the JSON that the recipe says otherwise; the stage and the processes as far as they are known."""
    return [
        *_stage(source, recipe),
        *_values(source, recipe),
        *_accumulation(source, recipe, ranks),
        *_ours(source),
        *_optimizer(source, recipe),
        *_scheduler(source, recipe),
        *_offload(source, recipe, zero),
    ]


def autocast(recipe: Recipe) -> str | None:
    """What products are computed in where that is not how the weights are stored, as float32 weights allow."""
    precision = recipe.train.precision
    return precision if recipe.model.dtype == "float32" and precision in ("bfloat16", "float16") else None


def _stage(source: Source, recipe: Recipe) -> list[Problem]:
    stage = source.get("zero_optimization.stage")
    if stage is None:
        return []
    if not isinstance(stage, int) or isinstance(stage, bool) or not 0 <= stage <= 3:
        return [source.problem("zero_optimization.stage", f"{stage!r}: must be 0, 1, 2 or 3")]
    if recipe.engine.zero not in ("auto", stage):
        return [_conflict(source, "zero_optimization.stage", "engine.zero", recipe.engine.zero)]
    return []


def _values(source: Source, recipe: Recipe) -> list[Problem]:
    """Single values that a key of the recipe decides."""
    dtype, bare = recipe.model.dtype, recipe.optimizer.master != "float32"
    said = (
        ("gradient_clipping", "train.clip", recipe.train.clip or 0.0),
        ("train_micro_batch_size_per_gpu", "batch.micro", recipe.batch.micro),
        ("train_batch_size", "batch.global", recipe.batch.global_ or "null"),
    )
    found = [_conflict(source, path, key, value) for path, key, value in said if source.get(path) not in (None, value)]
    switches = (
        ("bf16.enabled", "model.dtype", dtype, dtype == "bfloat16"),
        ("bfloat16.enabled", "model.dtype", dtype, dtype == "bfloat16"),
        ("fp16.enabled", "model.dtype", dtype, dtype == "float16"),
        ("bf16.bf16_master_weights_and_grads", "optimizer.master", recipe.optimizer.master, bare),
        ("bf16.bf16_optimizer_states", "optimizer.master", recipe.optimizer.master, bare),
        ("fp16.fp16_master_weights_and_grads", "optimizer.master", recipe.optimizer.master, bare),
        ("torch_autocast.enabled", "train.precision", recipe.train.precision, autocast(recipe) is not None),
    )
    for path, key, value, on in switches:
        if source.get(path) not in (None, on):
            found.append(_conflict(source, path, key, value))
    number = source.get("torch_autocast.dtype")
    if number is not None and source.get("torch_autocast.enabled") is not False:
        short = str(number).removeprefix("torch.")
        if _NUMBERS.get(short, short) != recipe.train.precision:
            found.append(_conflict(source, "torch_autocast.dtype", "train.precision", recipe.train.precision))
    return found


def _accumulation(source: Source, recipe: Recipe, ranks: int | None) -> list[Problem]:
    steps = source.get("gradient_accumulation_steps")
    if steps is None:
        return []
    path = "gradient_accumulation_steps"
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        return [source.problem(path, f"{steps!r}: must be a whole number above 0, or auto")]
    micro, total = recipe.batch.micro, recipe.batch.global_
    if total is None:
        message = f"{steps}: steps of batch.global_tokens differ in micro-batches; leave it out or write auto"
        return [source.problem(path, message)]
    if ranks is None:
        if total % (micro * steps) == 0:
            return []
        message = f"{steps} micro-batches of {micro} do not divide batch.global {total}; leave it out or write auto"
        return [source.problem(path, message)]
    if steps * micro * ranks == total:
        return []
    examples = f"{steps} micro-batches of {micro} on {ranks} processes are {steps * micro * ranks} examples a step"
    return [source.problem(path, f"{examples}, batch.global says {total}; leave it out or write auto")]


def _ours(source: Source) -> list[Problem]:
    found = []
    for path, value, reason in _OURS:
        if source.get(path) not in (None, value):
            found.append(source.problem(path, f"{_said(source.get(path))}: must be {_said(value)}, since {reason}"))
    for section in _UNSUPPORTED:
        value = source.get(section)
        off = value in (None, 1, {}) or (isinstance(value, Mapping) and value.get("enabled") is False)
        if not off:
            found.append(source.problem(section, "not supported here; leave it out"))
    return found


def _optimizer(source: Source, recipe: Recipe) -> list[Problem]:
    """The optimizer is torch's, made from the recipe; a section that only repeats the recipe is let through."""
    ours = recipe.optimizer
    section = source.get("optimizer")
    if section is None:
        return []
    if not isinstance(section, Mapping) or not isinstance(section.get("params", {}), Mapping):
        return [source.problem("optimizer", "must be a section with type and params; leave it out")]
    params = {key: value for key, value in section.get("params", {}).items() if value != "auto"}
    # DeepSpeed's Adam decouples weight decay unless it is told not to.
    decoupled = section.get("type") == "AdamW" or params.pop("adam_w_mode", True)
    kinds = {"adam": "adamw" if decoupled else "adam", "adamw": "adamw", "lion": "lion", "sgd": "sgd"}
    kind = kinds.get(str(section.get("type", "auto")).lower())
    found = []
    if section.get("type", "auto") != "auto" and kind != ours.kind:
        found.append(_conflict(source, "optimizer.type", "optimizer.kind", ours.kind))
    params.pop("torch_adam", None)
    for key, value in params.items():
        known = {"lr": ours.lr, "weight_decay": ours.weight_decay, "betas": list(ours.decays), "eps": ours.eps}
        if key not in known:
            found.append(source.problem(f"optimizer.params.{key}", "not supported here; leave it out"))
        elif (list(value) if isinstance(value, list | tuple) else value) != known[key]:
            found.append(_conflict(source, f"optimizer.params.{key}", f"optimizer.{key}", known[key]))
    return found


def _scheduler(source: Source, recipe: Recipe) -> list[Problem]:
    """The rates are the recipe's; a section that names the same curve and leaves its numbers to us is let through."""
    section = source.get("scheduler")
    if section is None:
        return []
    if not isinstance(section, Mapping) or not isinstance(section.get("params", {}), Mapping):
        return [source.problem("scheduler", "must be a section with type and params; leave it out")]
    found = []
    if section.get("type", "auto") not in ("auto", _SCHEDULERS.get(recipe.schedule.kind)):
        found.append(_conflict(source, "scheduler.type", "schedule.kind", recipe.schedule.kind))
    for key, value in section.get("params", {}).items():
        if value != "auto":
            message = (
                f"{_said(value)}: the learning rate is set by schedule and optimizer.lr; write auto or leave it out"
            )
            found.append(source.problem(f"scheduler.params.{key}", message))
    return found


def _offload(source: Source, recipe: Recipe, zero: int | None) -> list[Problem]:
    """Offload that DeepSpeed would ignore or refuse."""
    found = []
    for section, least in (("offload_optimizer", 1), ("offload_param", 3)):
        path = f"zero_optimization.{section}"
        device = source.get(f"{path}.device")
        if device in (None, "none"):
            continue
        said = _offload_of_recipe(recipe, section)
        if said not in (None, device):
            found.append(_conflict(source, f"{path}.device", "engine.offload", said))
        # To a drive, DeepSpeed moves what stage 3 shares out alone, and says nothing at other stages.
        least = 3 if device == "nvme" else least
        if zero is not None and zero < least:
            message = f"{device}: needs ZeRO stage {least}, this run has stage {zero}; set engine.zero or leave it out"
            found.append(source.problem(f"{path}.device", message))
        if device == "nvme" and recipe.strategy.kind in PHASED:
            message = f"nvme is not carried from one phase of {recipe.strategy.kind} to the next; use cpu or none"
            found.append(source.problem(f"{path}.device", message))
        if device == "nvme" and not source.get(f"{path}.nvme_path"):
            found.append(source.problem(path, "device nvme needs nvme_path, a folder on the drive"))
        if recipe.optimizer.master != "float32" and recipe.model.dtype != "float32":
            found.append(source.problem(path, "needs optimizer.master float32; change one of the two"))
    return found


def _offload_of_recipe(recipe: Recipe, section: str) -> str | None:
    """Where the recipe puts what a section of the JSON moves; None where it leaves that to the JSON."""
    if recipe.engine.offload == "none":
        return None
    offload = recipe.engine.offloaded(3)
    return offload.optimizer if section == "offload_optimizer" else offload.parameters


def _conflict(source: Source, path: str, key: str, value: Any) -> Problem:
    here = _said(source.get(path))
    return source.problem(path, f"{here} here, {key} is {_said(value)}; make them agree, or write auto here")


def _said(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)
