"""What must hold between `task:` and the other keys."""

from collections.abc import Callable
from typing import Any

from trainer.config.classify import Classify
from trainer.config.data import Source
from trainer.config.masked_lm import MaskedLM
from trainer.config.multi_task import MultiTask
from trainer.config.recipe import Recipe
from trainer.config.relations import Relations
from trainer.config.task import FALLING
from trainer.config.token_labels import OUTSIDE, TokenLabels
from trainer.errors import Problem, did_you_mean


def keys_fit_the_problem(recipe: Recipe) -> Problem | None:
    """A key that changes nothing is a mistake."""
    for key, task in _tasks(recipe):
        for name in _means_nothing(task) if isinstance(task, Classify) else ():
            return Problem(f"{key}.{name}", f"means nothing with {key}.problem: {task.problem}; leave it out")
    return None


def _tasks(recipe: Recipe) -> list[tuple[str, Any]]:
    """What is learned, each with its key."""
    if isinstance(recipe.task, MultiTask):
        return [(f"task.tasks.{name}", task) for name, task in recipe.task.tasks.items()]
    return [("task", recipe.task)]


def _means_nothing(task: Classify) -> list[str]:
    """Keys that change nothing of this problem."""
    alone = {
        "class_weights": task.problem == "single",
        "focal": task.problem == "single",
        "label_smoothing": task.problem == "single",
        "labels": task.problem != "regression",
        "threshold": task.problem == "multiple",
    }
    return [
        name for name, fits in alone.items() if not fits and getattr(task, name) != Classify.model_fields[name].default
    ]


def labels_are_two_and_more(recipe: Recipe) -> Problem | None:
    """One class is no choice."""
    for key, task in _tasks(recipe):
        labels = task.labels if isinstance(task, Classify | Relations | TokenLabels) else None
        if labels is not None and not len(set(labels)) == len(labels) >= 2:
            shown = ", ".join(labels) or "an empty list"
            return Problem(f"{key}.labels", f"{shown}: name two labels or more, each once")
    return None


def weights_are_of_labels(recipe: Recipe) -> Problem | None:
    """A weight of another label is a typing error."""
    for key, task in _tasks(recipe):
        weights = task.class_weights if isinstance(task, Classify | Relations) else None
        for name in weights if isinstance(weights, dict) and task.labels is not None else ():
            if name not in task.labels:
                message = f"{name} is no label of {key}.labels{did_you_mean(name, task.labels)}"
                return Problem(f"{key}.class_weights", message)
    return None


def tags_are_bio(recipe: Recipe) -> Problem | None:
    """An entity begins with B-x."""
    for key, task in _tasks(recipe):
        tags = task.labels if isinstance(task, TokenLabels) and task.scheme == "bio" else None
        for tag in tags or ():
            begin, _, kind = tag.partition("-")
            if tag != OUTSIDE and not (begin in ("B", "I") and kind):
                message = f"{tag} is neither {OUTSIDE} nor B-x or I-x; set {key}.scheme: none for others"
                return Problem(f"{key}.labels", message)
            if begin == "I" and f"B-{kind}" not in (tags or ()):
                return Problem(f"{key}.labels", f"{tag} goes on where nothing begins; add B-{kind}")
    return None


def sources_name_their_task(recipe: Recipe) -> Problem | None:
    """Rows are for one of several tasks, which can read them."""
    task = recipe.task
    for key, source in _sources(recipe):
        if not isinstance(task, MultiTask):
            if source.task is not None:
                return Problem(f"{key}.task", f"{source.task}: the recipe has one task; leave it out")
            continue
        names = list(task.tasks)
        if source.task not in task.tasks:
            said = "is missing" if source.task is None else f"{source.task} is none of task.tasks"
            return Problem(f"{key}.task", f"{said}{did_you_mean(source.task or '', names)}")
        known = [name for name in task.tasks[source.task].formats if name in task.formats]
        if source.format not in known:
            message = f"{source.task} learns nothing from {source.format} rows; it takes {', '.join(known)}"
            return Problem(f"{key}.format", message)
    return None


def tasks_are_several(recipe: Recipe) -> Problem | None:
    """Each has rows, a linear head and a share."""
    task = recipe.task
    if not isinstance(task, MultiTask):
        return None
    names, held = list(task.tasks), {source.task for source in recipe.data.train}
    shares = task.sampling if isinstance(task.sampling, dict) else {}
    if len(names) < 2:
        return Problem("task.tasks", f"holds {', '.join(names) or 'nothing'}; name two tasks or more")
    for name, own in task.tasks.items():
        if name not in held:
            return Problem("data.train", f"has no source with task: {name}; add one, or take it out of task.tasks")
        if "." in name or name == "variances":
            return Problem(f"task.tasks.{name}", "is no name that heads can have; name it otherwise")
        if isinstance(own, TokenLabels) and own.head == "crf":
            return Problem(f"task.tasks.{name}.head", "crf stands alone; several tasks have linear heads")
        if shares and shares.get(name, 0.0) <= 0.0:
            return Problem("task.sampling", f"has no share above 0 for {name}; name all tasks")
    for key, given in (("weights", task.weights), ("sampling", shares)):
        for name in given:
            if name not in names:
                return Problem(f"task.{key}", f"{name} is none of task.tasks{did_you_mean(name, names)}")
    return None


def _sources(recipe: Recipe) -> list[tuple[str, Source]]:
    """Every source with its key."""
    data = recipe.data
    held_out = [(f"data.{name}", getattr(data, name)) for name in ("validation", "test")]
    named = [("data.train", data.train), *((key, held) for key, held in held_out if isinstance(held, tuple))]
    return [(f"{key}.{index}", source) for key, sources in named for index, source in enumerate(sources)]


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
    if metric not in _metrics(recipe) or (mode == "min") == (metric.rpartition(".")[2] in FALLING):
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
    known = recipe.task.formats
    for key, source in _sources(recipe):
        if source.format not in known:
            kind = f"task.kind: {recipe.task.kind}"
            message = f"{kind} learns nothing from {source.format} rows; it takes {', '.join(known)}"
            return Problem(f"{key}.format", message)
    return None


def texts_have_means(recipe: Recipe) -> Problem | None:
    """A mean is one of the tokens of a text."""
    task = recipe.task
    if not isinstance(task, Classify) or task.pooling == "auto" or recipe.data.train[0].format != "image":
        return None
    return Problem("task.pooling", f"{task.pooling} means nothing with rows of image; leave it out")


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
    sources_name_their_task,
    tasks_are_several,
    pairs_tell_the_next_sentence,
    the_metric_is_measured,
    the_mode_fits_the_metric,
    only_writers_answer,
    the_task_does_it,
    formats_fit_the_task,
    images_stand_alone,
    texts_have_means,
)
