"""What must hold between `task:` and the other keys."""

from collections.abc import Callable

from trainer.config.recipe import Recipe
from trainer.config.task import FALLING, PACKED, Task
from trainer.errors import Problem, did_you_mean

CLASSIFIED = ("text", "pair")
"""The formats whose rows classify labels."""


def keys_fit_the_task(recipe: Recipe) -> Problem | None:
    """A key that changes nothing is a mistake."""
    task = recipe.task
    alone = {
        "class_weights": task.kind == "classify" and task.problem == "single",
        "focal": task.kind == "classify" and task.problem == "single",
        "label_smoothing": task.kind == "classify" and task.problem == "single",
        "labels": task.kind == "classify" and task.problem != "regression",
        "label": task.kind == "classify",
        "problem": task.kind == "classify",
    }
    for name, fits in alone.items():
        if not fits and getattr(task, name) != Task.model_fields[name].default:
            with_ = "kind: causal_lm" if task.kind == "causal_lm" else f"problem: {task.problem}"
            return Problem(f"task.{name}", f"means nothing with task.{with_}; leave it out")
    return None


def labels_are_two_and_more(recipe: Recipe) -> Problem | None:
    """One class is no choice."""
    labels = recipe.task.labels
    if labels is None or len(set(labels)) == len(labels) >= 2:
        return None
    return Problem("task.labels", f"{', '.join(labels) or 'an empty list'}: name two labels or more, each once")


def weights_are_of_labels(recipe: Recipe) -> Problem | None:
    """A weight of another label is a typing error."""
    labels, weights = recipe.task.labels, recipe.task.class_weights
    if labels is None or not isinstance(weights, dict):
        return None
    for name in weights:
        if name not in labels:
            return Problem("task.class_weights", f"{name} is no label of task.labels{did_you_mean(name, labels)}")
    return None


def the_metric_is_measured(recipe: Recipe) -> Problem | None:
    """The best checkpoint is chosen by something that validation tells."""
    metric, known = recipe.evaluate.metric, recipe.task.metrics()
    if metric in known:
        return None
    return Problem("evaluate.metric", f"{metric} is not measured{did_you_mean(metric, known)}")


def the_mode_fits_the_metric(recipe: Recipe) -> Problem | None:
    """A loss is better when it is lower, an accuracy when it is higher."""
    metric, mode = recipe.evaluate.metric, recipe.evaluate.mode
    if metric not in recipe.task.metrics() or (mode == "min") == (metric in FALLING):
        return None
    worst, way_out = ("lowest", "max") if mode == "min" else ("highest", "min")
    return Problem("evaluate.mode", f"{mode} would choose the model with the {worst} {metric}; set it to {way_out}")


def labels_are_read_from_rows(recipe: Recipe) -> Problem | None:
    """What classify does without."""
    if recipe.task.kind in PACKED:
        return None
    kind = f"task.kind: {recipe.task.kind}"
    refused = {
        "data.packing": (recipe.data.packing, "pads its rows; leave it out"),
        "data.streaming": (recipe.data.streaming, "has to know all labels first; set it to false"),
        "data.pseudo_label": (recipe.data.pseudo_label is not None, "labels no rows; leave it out"),
        "data.learn": (recipe.data.learn != "auto", "learns labels and no tokens; leave it out"),
        "data.too_long": (recipe.data.too_long == "split", "labels whole rows; set it to cut, drop or error"),
        "evaluate.samples": (recipe.evaluate.samples > 0, "writes no answers; leave it out"),
    }
    for key, (is_set, why) in refused.items():
        if is_set:
            return Problem(key, f"{kind} {why}")
    return None


def formats_hold_labelled_texts(recipe: Recipe) -> Problem | None:
    """A label belongs to a text, or to several."""
    if recipe.task.kind != "classify":
        return None
    data = recipe.data
    held_out = [sources for sources in (data.validation, data.test) if isinstance(sources, tuple | list)]
    named = {"data.train": data.train, **dict(zip(("data.validation", "data.test"), held_out, strict=False))}
    for key, sources in named.items():
        for index, source in enumerate(sources):
            if source.format not in CLASSIFIED:
                message = f"task.kind: classify takes {' and '.join(CLASSIFIED)} rows, not {source.format}"
                return Problem(f"{key}.{index}.format", message)
    return None


TASK_RULES: tuple[Callable[[Recipe], Problem | None], ...] = (
    keys_fit_the_task,
    labels_are_two_and_more,
    weights_are_of_labels,
    the_metric_is_measured,
    the_mode_fits_the_metric,
    labels_are_read_from_rows,
    formats_hold_labelled_texts,
)
