"""The DeepSpeed configuration of a run: the stage's preset, the user's own JSON over it, and the recipe's values.

DeepSpeed's own accumulation is off: the loop divides each loss once and marks the last micro-batch, so the
configuration speaks of one micro-batch a step. Gradients are averaged over processes by DeepSpeed.
"""

import copy
from collections.abc import Mapping
from typing import Any

from trainer.config.engine import Engine
from trainer.config.recipe import Recipe
from trainer.errors import Problem, RecipeError
from trainer.plan import deepspeed_source
from trainer.plan.deepspeed_conflicts import autocast, conflicts
from trainer.plan.deepspeed_source import Source
from trainer.plan.memory import BUCKET

_MOST = 20
_BUCKET = {True: BUCKET, False: 7_000_000}
"""Numbers that one message holds, by whether there is a device. A processor copies each message: one of 28 MB lies in
memory that its last step freed, and larger ones in pages that the kernel has to clear."""
# Sections that torch's optimizer and our schedule stand in for.
_REPLACED = ("optimizer", "scheduler")


def build(
    recipe: Recipe, *, zero: int, micro: int, ranks: int, cuda: bool, largest: int | None = None
) -> dict[str, Any]:
    """The whole configuration of a run of `ranks` processes, `micro` examples each, at one ZeRO stage.

    `largest` are the numbers of the largest parameter, where they are known.

    Raises:
        RecipeError: the user's JSON cannot be read, holds unknown keys or contradicts the recipe.
    """
    source = deepspeed_source.read(recipe.engine.deepspeed)
    found = _problems(source, recipe, zero, ranks)
    if found:
        raise RecipeError(_shortened(found))
    config = deepspeed_source.preset(zero)
    if source is not None:
        theirs = {"bf16" if key == "bfloat16" else key: value for key, value in source.value.items()}
        config = _merged(config, {key: value for key, value in theirs.items() if key not in _REPLACED})
    config = _without_auto(config)
    config.update(
        train_micro_batch_size_per_gpu=micro,
        gradient_accumulation_steps=1,
        train_batch_size=micro * ranks,
        gradient_clipping=recipe.train.clip or 0.0,
        zero_allow_untested_optimizer=True,
        zero_force_ds_cpu_optimizer=False,
    )
    config["zero_optimization"] = _sharing(config.get("zero_optimization", {}), recipe.engine, zero, cuda)
    offloaded = config["zero_optimization"].get("offload_param") or {}
    if offloaded.get("device") == "nvme" and largest is not None:
        # DeepSpeed's own buffers of 100 million numbers are too small for large vocabularies, and much for others.
        offloaded.setdefault("buffer_size", -(-largest // ranks))
    return _numbers(config, recipe, zero)


def stage_of(recipe: Recipe) -> int | None:
    """The ZeRO stage that the recipe or its DeepSpeed JSON names; None where both leave it open."""
    if recipe.engine.zero != "auto":
        return recipe.engine.zero
    try:
        source = deepspeed_source.read(recipe.engine.deepspeed)
    except RecipeError:
        # `problems` tells what is wrong with it.
        return None
    stage = None if source is None else source.get("zero_optimization.stage")
    return stage if stage in (0, 1, 2, 3) else None


def problems(recipe: Recipe) -> list[Problem]:
    """What is wrong with `engine.deepspeed`, as far as it shows before the number of processes is known."""
    try:
        source = deepspeed_source.read(recipe.engine.deepspeed)
    except RecipeError as error:
        return list(error.problems)
    return _shortened(_problems(source, recipe, stage_of(recipe), None))


def _problems(source: Source | None, recipe: Recipe, zero: int | None, ranks: int | None) -> list[Problem]:
    found = [] if source is None else source.problems() + conflicts(source, recipe, zero, ranks)
    master = recipe.optimizer.master
    if master != "float32" and recipe.model.dtype != "float32":
        if zero == 0:
            message = f"{master}: DeepSpeed keeps a float32 copy at stage 0; set float32, engine.zero 1 to 3 or"
            found.append(Problem("optimizer.master", f"{message} engine.kind torch"))
        if recipe.model.dtype == "float16":
            message = "DeepSpeed needs a float32 copy of float16 weights; set float32 or model.dtype bfloat16"
            found.append(Problem("optimizer.master", f"{master}: {message}"))
    return found


def _shortened(found: list[Problem]) -> list[Problem]:
    more = len(found) - _MOST
    return found if more <= 0 else [*found[:_MOST], Problem("engine.deepspeed", f"and {more} more problems")]


def _sharing(section: dict[str, Any], engine: Engine, zero: int, cuda: bool) -> dict[str, Any]:
    """The ZeRO section; overlapping and pinned memory need a device."""
    section = {**section, "stage": zero}
    offload = engine.offloaded(zero)
    for key, device in (("offload_optimizer", offload.optimizer), ("offload_param", offload.parameters)):
        if device != "none":
            drive = {"nvme_path": engine.nvme} if device == "nvme" else {}
            section[key] = {**section.get(key, {}), "device": device, **drive}
    if engine.hpz:
        section["zero_hpz_partition_size"] = engine.hpz
    for key in ("quantized_weights", "quantized_gradients"):
        if getattr(engine, key):
            section[f"zero_{key}"] = True
    if zero:
        section.setdefault("overlap_comm", cuda)
        section.setdefault("reduce_bucket_size", _BUCKET[cuda])
    if zero in (1, 2):
        section.setdefault("allgather_bucket_size", _BUCKET[cuda])
    if zero == 3 and not cuda:
        # A processor waits for what it fetches, early or late.
        section.setdefault("stage3_prefetch_bucket_size", 0)
    for key in ("offload_optimizer", "offload_param"):
        if section.get(key):
            section[key] = {"pin_memory": cuda, **section[key]}
    return section


def _numbers(config: dict[str, Any], recipe: Recipe, zero: int) -> dict[str, Any]:
    """How weights, gradients and messages are stored."""
    dtype, bare = recipe.model.dtype, recipe.optimizer.master != "float32"
    config["bf16"] = {**config.get("bf16", {}), "enabled": dtype == "bfloat16"}
    config["fp16"] = {**config.get("fp16", {}), "enabled": dtype == "float16"}
    if dtype == "float32":
        config.setdefault("communication_data_type", "fp32")
    if dtype == "bfloat16" and bare:
        config["bf16"].update(bf16_master_weights_and_grads=True, bf16_optimizer_states=True)
    if dtype == "bfloat16" and not bare and zero >= 2:
        # A bfloat16 sum of 64 micro-batches is off by 1 %. A float32 sum costs little where it is shared out.
        config["data_types"] = {"grad_accum_dtype": "fp32", **config.get("data_types", {})}
    products = autocast(recipe)
    if products:
        # No module is "safe" for messages in lower precision: gradients of float32 weights are reduced in float32.
        config["torch_autocast"] = {
            "lower_precision_safe_modules": [],
            **config.get("torch_autocast", {}),
            "enabled": True,
            "dtype": products,
        }
    return config


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, section by section; an "auto" leaves what is below it."""
    result = copy.deepcopy(dict(base))
    for key, value in over.items():
        if value == "auto" and key in result:
            continue
        below = result.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            result[key] = _merged(below, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _without_auto(section: Mapping[str, Any]) -> dict[str, Any]:
    """What stays open, or was emptied with null, takes DeepSpeed's default: it knows defaults for absent keys only."""
    kept = {key: _without_auto(value) if isinstance(value, Mapping) else value for key, value in section.items()}
    return {key: value for key, value in kept.items() if value is not None and value != "auto"}
