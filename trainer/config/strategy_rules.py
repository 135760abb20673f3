"""What must hold between `strategy:` and other keys."""

from trainer.config.recipe import Recipe
from trainer.config.strategy import Ends, Layerwise, Phases
from trainer.errors import Problem

CACHED = ("causal_lm", "classify", "token_labels", "relations", "joint_relations", "multi_task")
"""Tasks whose rows enter the model alike in each epoch, and once a pass."""


def a_phase_ends_once(recipe: Recipe) -> Problem | None:
    """At most one key says when, and one does unless the phase is the last."""
    for key, phase in _phases(recipe):
        if len(phase.ends) > 1:
            return Problem(f"{key}.{phase.ends[1]}", f"the phase ends by {phase.ends[0]} already; keep one of them")
    if not isinstance(recipe.strategy, Phases):
        return None
    *others, last = _phases(recipe)
    for key, phase in others:
        if not phase.ends:
            return Problem(key, "does not say when it ends, so that the next one never begins; give it steps or epochs")
    if last[1].ends:
        message = "the last phase goes on to the end of the run; leave it out, or write another phase behind it"
        return Problem(f"{last[0]}.{last[1].ends[0]}", message)
    return None


def a_plateau_is_seen_by_validation(recipe: Recipe) -> Problem | None:
    """Without validation nothing stops to improve."""
    if recipe.data.validation is not None:
        return None
    for key, phase in _phases(recipe):
        if phase.plateau is not None:
            return Problem(f"{key}.plateau", "counts validations, and there are none; set data.validation")
    return None


def what_is_kept_is_the_same_each_time(recipe: Recipe) -> Problem | None:
    """A cache is for rows that enter the model alike in each epoch, and once a pass."""
    if getattr(recipe.strategy, "cache", "none") == "none":
        return None
    if recipe.data.streaming:
        return Problem("strategy.cache", "keeps rows by their number, and data.streaming has none; leave it out")
    if recipe.train.compile:
        return Problem("strategy.cache", "leaves layers out, which train.compile does not; leave one of the two out")
    if recipe.task.kind in CACHED:
        return None
    message = f"is not for task.kind: {recipe.task.kind}, whose rows enter the model in another way each time"
    return Problem("strategy.cache", f"{message}; leave it out")


def _phases(recipe: Recipe) -> list[tuple[str, Ends]]:
    """What has an end, and its key."""
    if isinstance(recipe.strategy, Phases):
        return [(f"strategy.phases.{number}", phase) for number, phase in enumerate(recipe.strategy.phases)]
    return [("strategy", recipe.strategy)] if isinstance(recipe.strategy, Layerwise) else []


STRATEGY_RULES = (a_phase_ends_once, a_plateau_is_seen_by_validation, what_is_kept_is_the_same_each_time)
