"""What must hold between `task:` and the other keys."""

from collections.abc import Callable

from trainer.config.classify import Classify
from trainer.config.masked_lm import MaskedLM
from trainer.config.recipe import Recipe
from trainer.config.relations import Relations
from trainer.config.task import FALLING
from trainer.config.token_labels import OUTSIDE, TokenLabels
from trainer.errors import Problem, did_you_mean


def keys_fit_the_problem(recipe: Recipe) -> Problem | None:
    """A key that changes nothing is a mistake."""
    task = recipe.task
    if not isinstance(task, Classify):
        return None
    alone = {
        "class_weights": task.problem == "single",
        "focal": task.problem == "single",
        "label_smoothing": task.problem == "single",
        "labels": task.problem != "regression",
    }
    for name, fits in alone.items():
        if not fits and getattr(task, name) != Classify.model_fields[name].default:
            return Problem(f"task.{name}", f"means nothing with task.problem: {task.problem}; leave it out")
    return None


def labels_are_two_and_more(recipe: Recipe) -> Problem | None:
    """One class is no choice."""
    labels = recipe.task.labels if isinstance(recipe.task, Classify | Relations | TokenLabels) else None
    if labels is None or len(set(labels)) == len(labels) >= 2:
        return None
    return Problem("task.labels", f"{', '.join(labels) or 'an empty list'}: name two labels or more, each once")


def weights_are_of_labels(recipe: Recipe) -> Problem | None:
    """A weight of another label is a typing error."""
    task = recipe.task
    if not isinstance(task, Classify | Relations) or task.labels is None or not isinstance(task.class_weights, dict):
        return None
    labels, weights = task.labels, task.class_weights
    for name in weights:
        if name not in labels:
            return Problem("task.class_weights", f"{name} is no label of task.labels{did_you_mean(name, labels)}")
    return None


def tags_are_bio(recipe: Recipe) -> Problem | None:
    """An entity begins with B-x."""
    task = recipe.task
    if not isinstance(task, TokenLabels) or task.labels is None or task.scheme != "bio":
        return None
    for tag in task.labels:
        begin, _, kind = tag.partition("-")
        if tag != OUTSIDE and not (begin in ("B", "I") and kind):
            return Problem(
                "task.labels", f"{tag} is neither {OUTSIDE} nor B-x or I-x; set task.scheme: none for others"
            )
        if begin == "I" and f"B-{kind}" not in task.labels:
            return Problem("task.labels", f"{tag} goes on where nothing begins; add B-{kind}")
    return None


def pairs_tell_the_next_sentence(recipe: Recipe) -> Problem | None:
    """What follows a text is known of pairs alone."""
    task = recipe.task
    if not isinstance(task, MaskedLM) or not task.next_sentence:
        return None
    others = sorted({source.format for source in recipe.data.train} - {"pair"})
    if not others:
        return None
    message = f"needs rows of the format pair, a text and the one after it; data.train holds {', '.join(others)}"
    return Problem("task.next_sentence", message)


def the_metric_is_measured(recipe: Recipe) -> Problem | None:
    """The best checkpoint is chosen by something that validation tells."""
    metric, known = recipe.evaluate.metric, _metrics(recipe)
    if metric in known:
        return None
    return Problem("evaluate.metric", f"{metric} is not measured{did_you_mean(metric, known)}")


def _metrics(recipe: Recipe) -> tuple[str, ...]:
    return (*recipe.task.metrics(), *recipe.evaluate.answers)


def the_mode_fits_the_metric(recipe: Recipe) -> Problem | None:
    """A loss is better when it is lower, an accuracy when it is higher."""
    metric, mode = recipe.evaluate.metric, recipe.evaluate.mode
    if metric not in _metrics(recipe) or (mode == "min") == (metric in FALLING):
        return None
    worst, way_out = ("lowest", "max") if mode == "min" else ("highest", "min")
    return Problem("evaluate.mode", f"{mode} would choose the model with the {worst} {metric}; set it to {way_out}")


def only_writers_answer(recipe: Recipe) -> Problem | None:
    """A head for labels writes nothing."""
    if recipe.task.writes:
        return None
    for name in ("answers", "samples"):
        if getattr(recipe.evaluate, name):
            return Problem(f"evaluate.{name}", f"task.kind: {recipe.task.kind} writes no answers; leave it out")
    return None


def the_task_does_it(recipe: Recipe) -> Problem | None:
    """What only a task with packed rows does."""
    if recipe.task.packs:
        return None
    kind = f"task.kind: {recipe.task.kind}"
    refused = {
        "data.packing": (recipe.data.packing, "pads its rows; leave it out"),
        "data.streaming": (recipe.data.streaming, "has to know all rows first; set it to false"),
        "data.pseudo_label": (recipe.data.pseudo_label is not None, "labels no rows; leave it out"),
        "data.learn": (recipe.data.learn != "auto", "knows what it learns; leave it out"),
        "data.too_long": (recipe.data.too_long == "split", "takes whole rows; set it to cut, drop or error"),
    }
    for key, (is_set, why) in refused.items():
        if is_set:
            return Problem(key, f"{kind} {why}")
    return None


def formats_fit_the_task(recipe: Recipe) -> Problem | None:
    """A label belongs to a text, an answer to a question."""
    data, known = recipe.data, recipe.task.formats
    held_out = [(f"data.{name}", getattr(data, name)) for name in ("validation", "test")]
    named = [("data.train", data.train), *((key, held) for key, held in held_out if isinstance(held, tuple))]
    for key, sources in named:
        for index, source in enumerate(sources):
            if source.format not in known:
                kind = f"task.kind: {recipe.task.kind}"
                message = f"{kind} learns nothing from {source.format} rows; it takes {', '.join(known)}"
                return Problem(f"{key}.{index}.format", message)
    return None


def images_stand_alone(recipe: Recipe) -> Problem | None:
    """A model looks at images, or it reads."""
    formats = {source.format for source in recipe.data.train}
    if recipe.task.kind != "classify" or "image" not in formats or len(formats) == 1:
        return None
    others = " and ".join(sorted(formats - {"image"}))
    message = f"holds images and {others}; train on one of the two, or ask about images in rows of image_text"
    return Problem("data.train", message)


TASK_RULES: tuple[Callable[[Recipe], Problem | None], ...] = (
    keys_fit_the_problem,
    labels_are_two_and_more,
    weights_are_of_labels,
    tags_are_bio,
    pairs_tell_the_next_sentence,
    the_metric_is_measured,
    the_mode_fits_the_metric,
    only_writers_answer,
    the_task_does_it,
    formats_fit_the_task,
    images_stand_alone,
)
