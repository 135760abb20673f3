"""What must hold between `optimizer:` and other keys."""

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


def steps_in_the_backward_pass_are_torchs(recipe: Recipe) -> Problem | None:
    """DeepSpeed steps after the backward pass."""
    engine = recipe.engine
    deepspeed = engine.kind == "deepspeed" or engine.zero not in ("auto", 0) or engine.deepspeed is not None
    if recipe.optimizer.in_backward and deepspeed:
        message = "is for plain torch; set engine.kind: torch without zero and deepspeed, or leave it out"
        return Problem("optimizer.in_backward", message)
    return None


def keys_fit_the_schedule(recipe: Recipe) -> Problem | None:
    """A key that changes nothing is a mistake."""
    alone = {"cycles": "cosine_restarts", "power": "polynomial", "decay": "wsd"}
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
    steps_in_the_backward_pass_are_torchs,
)
