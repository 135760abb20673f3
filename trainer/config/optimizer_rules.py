"""What must hold between `optimizer:` and other keys."""

from trainer.config.optimizer import Optimizer
from trainer.config.recipe import Recipe
from trainer.config.schedule import Schedule
from trainer.errors import Problem


def compensated_weights_are_bfloat16(recipe: Recipe) -> Problem | None:
    """Kahan compensation and stochastic rounding stand in for the bits that bfloat16 lacks."""
    master, dtype = recipe.optimizer.master, recipe.model.dtype
    if master in ("kahan", "stochastic") and dtype != "bfloat16":
        message = f"{master} is for weights stored in bfloat16, not {dtype}; set model.dtype: bfloat16, or float32"
        return Problem("optimizer.master", message)
    return None


def torchs_own(recipe: Recipe) -> str | None:
    """The key that DeepSpeed does not do: it steps after the backward pass, clips by the norm alone, cuts matrices, and
    places moments itself.
    """
    keys = {
        "optimizer.in_backward": recipe.optimizer.in_backward,
        "optimizer.paged": recipe.optimizer.paged,
        "optimizer.kind": recipe.optimizer.whole,
        "train.clip_value": recipe.train.clip_value is not None,
        "adapter.kind": recipe.adapter.kind == "adalora",
    }
    return next((key for key, asked in keys.items() if asked), None)


def what_is_torchs_has_torch(recipe: Recipe) -> Problem | None:
    """A key that DeepSpeed does not do, beside DeepSpeed."""
    engine, key = recipe.engine, torchs_own(recipe)
    deepspeed = engine.kind == "deepspeed" or engine.zero not in ("auto", 0) or engine.deepspeed is not None
    if key is None or not (deepspeed or engine.offload != "none"):
        return None
    if key == "optimizer.kind":
        message = f"{recipe.optimizer.kind} looks at whole matrices, which DeepSpeed cuts"
        return Problem(key, f"{message}; set engine.kind: torch without zero, offload and deepspeed, or take adamw")
    if key == "adapter.kind":
        message = "adalora looks at whole gradients, which DeepSpeed cuts"
        return Problem(key, f"{message}; set engine.kind: torch without zero, offload and deepspeed, or take lora")
    message = "is for plain torch; set engine.kind: torch without zero, offload and deepspeed, or leave it out"
    return Problem(key, message)


def keys_fit_the_optimizer(recipe: Recipe) -> Problem | None:
    """A key that changes nothing is a mistake."""
    settings = recipe.optimizer
    kinds = {
        "betas": ("adamw", "adam", "adamw_8bit", "lion", "muon", "galore"),
        "momentum": ("sgd", "muon"),
        "galore": ("galore",),
        "paged": ("adamw", "adamw_8bit"),
    }
    for name, known in kinds.items():
        if settings.kind not in known and getattr(settings, name) != getattr(Optimizer(), name):
            message = f"means nothing with optimizer.kind: {settings.kind}; leave it out, or set that to {known[0]}"
            return Problem(f"optimizer.{name}", message)
    return None


def clips_one_way(recipe: Recipe) -> Problem | None:
    """By the norm or by the values."""
    if recipe.train.clip_value is not None and recipe.train.clip is not None:
        message = "train.clip cuts by the norm already; set that to null, or leave this out"
        return Problem("train.clip_value", message)
    return None


def keys_fit_the_schedule(recipe: Recipe) -> Problem | None:
    """A key that changes nothing is a mistake."""
    alone = {"cycles": "cosine_restarts", "power": "polynomial", "decay": "wsd", "decades": "range_test"}
    for name, kind in alone.items():
        given, default = getattr(recipe.schedule, name), Schedule.model_fields[name].default
        if recipe.schedule.kind != kind and given != default:
            message = f"means nothing with schedule.kind: {recipe.schedule.kind}; leave it out, or set that to {kind}"
            return Problem(f"schedule.{name}", message)
    if recipe.schedule.kind == "constant" and recipe.schedule.floor:
        return Problem("schedule.floor", "means nothing with schedule.kind: constant; leave it out")
    return None


OPTIMIZER_RULES = (
    keys_fit_the_schedule,
    compensated_weights_are_bfloat16,
    keys_fit_the_optimizer,
    what_is_torchs_has_torch,
    clips_one_way,
)
