"""What must hold between `log:` and other keys."""

from trainer.config.recipe import Recipe
from trainer.errors import Problem


def profiled_steps_are_in_their_order(recipe: Recipe) -> Problem | None:
    """`log.profile.steps` names the first step and the last."""
    profile = recipe.log.profile
    if profile is not None and profile.steps[0] > profile.steps[1]:
        first, last = profile.steps
        return Problem(
            "log.profile.steps", f"[{first}, {last}] ends before it begins; name the first step, then the last"
        )
    return None


def profiled_steps_are_in_the_run(recipe: Recipe) -> Problem | None:
    """The run goes on to the last of them, as far as `train.max_steps` says."""
    return beyond_the_run(recipe, recipe.train.max_steps)


def beyond_the_run(recipe: Recipe, steps: int | None) -> Problem | None:
    """The same of a run of so many steps; None where they are not known."""
    profile = recipe.log.profile
    if profile is None or steps is None or profile.steps[1] <= steps:
        return None
    first, last = profile.steps
    message = f"[{first}, {last}] ends after the run, which has {steps:,} step{'s' if steps != 1 else ''}"
    return Problem("log.profile.steps", f"{message}; name steps from 1 to {steps:,}, or train longer")


LOG_RULES = (profiled_steps_are_in_their_order, profiled_steps_are_in_the_run)
