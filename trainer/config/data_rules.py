"""What must hold between the keys of `data:` that prepare rows."""

from collections.abc import Callable, Iterator

from trainer.config.data import HeldOut, Source
from trainer.config.recipe import Recipe
from trainer.errors import Problem

ANSWERED = ("completion", "instruction", "chat")
"""Formats whose rows have an answer that a run can give."""
CHAT = ("chat", "instruction", "image_text")
LEARNED = {
    "assistant": CHAT,
    "last_assistant": CHAT,
    "completion": ("completion", "pair", "table", "triples"),
}
"""The formats that each value of `data.learn` fits; it leaves those of others as they are."""


def some_rows_are_left_to_train(recipe: Recipe) -> Problem | None:
    """Validation and test are shares of the same rows."""
    validation, test = recipe.data.validation, recipe.data.test
    if not isinstance(validation, HeldOut) or not isinstance(test, HeldOut) or validation.fraction + test.fraction < 1:
        return None
    message = f"{test.fraction} and data.validation.fraction: {validation.fraction} leave no row to train; lower one"
    return Problem("data.test.fraction", message)


def time_decides_alone(recipe: Recipe) -> Problem | None:
    """The latest rows have the labels that they have."""
    for key, held in (("data.validation", recipe.data.validation), ("data.test", recipe.data.test)):
        if isinstance(held, HeldOut) and held.time is not None and held.stratify is not None:
            return Problem(
                f"{key}.stratify", f"cannot be held where {key}.time names the rows; leave one of the two out"
            )
    return None


def some_lengths_are_kept(recipe: Recipe) -> Problem | None:
    """A row between the two limits has to exist."""
    clean = recipe.data.clean
    if clean.max_characters is None or clean.min_characters <= clean.max_characters:
        return None
    message = (
        f"{clean.min_characters} is more than data.clean.max_characters: {clean.max_characters}; no row would stay"
    )
    return Problem("data.clean.min_characters", message)


def pseudo_labels_are_answers(recipe: Recipe) -> Problem | None:
    """A run answers prompts."""
    rows = recipe.data.pseudo_label.rows if recipe.data.pseudo_label else ()
    for index, source in enumerate(rows):
        if source.format not in ANSWERED:
            message = f"{source.format} has no answer that a run could give; it takes {', '.join(ANSWERED)}"
            return Problem(f"data.pseudo_label.rows.{index}.format", message)
    return None


def what_is_learned_fits_a_format(recipe: Recipe) -> Problem | None:
    """A turn of the assistant, or a completion, stands in some of the training rows."""
    learn = recipe.data.learn
    fits = LEARNED.get(learn, ())
    found = {source.format for source in recipe.data.train}
    if not fits or found & {*fits}:
        return None
    formats = " and ".join(sorted(found))
    return Problem("data.learn", f"{learn} is for {', '.join(fits)} rows, and data.train has {formats}; set it to auto")


def sources_name_something(recipe: Recipe) -> Problem | None:
    """An empty list of paths holds no row."""
    empty = (
        Problem(f"{key}.path", "is an empty list; name a file") for key, source in _sources(recipe) if not source.path
    )
    return next(empty, None)


def encodings_are_known(recipe: Recipe) -> Problem | None:
    """Python knows about a hundred, by many names."""
    for key, source in _sources(recipe):
        try:
            "".encode(source.encoding or "utf-8")
        except LookupError:
            message = f"{source.encoding} is no encoding of text that Python knows, such as latin-1, cp1252 or utf-16"
            return Problem(f"{key}.encoding", message)
    return None


def _sources(recipe: Recipe) -> Iterator[tuple[str, Source]]:
    """All sources with their keys."""
    data = recipe.data
    lists = {"data.train": data.train, "data.clean.benchmarks": data.clean.benchmarks}
    lists |= {
        f"data.{name}": named
        for name, named in (("validation", data.validation), ("test", data.test))
        if isinstance(named, tuple)
    }
    if data.pseudo_label is not None:
        lists["data.pseudo_label.rows"] = data.pseudo_label.rows
    for key, sources in lists.items():
        yield from ((f"{key}.{index}", source) for index, source in enumerate(sources))


def test_names_a_source(recipe: Recipe) -> Problem | None:
    """An empty list is no way to say that there are no test rows."""
    if recipe.data.test == ():
        return Problem("data.test", "is an empty list; name a source, or write null for no test rows")
    return None


def only_text_is_split(recipe: Recipe) -> Problem | None:
    """A part of a text is a text; a part of an answer without its question is none."""
    if recipe.data.too_long != "split":
        return None
    for name in ("train", "validation", "test"):
        named = getattr(recipe.data, name)
        for index, source in enumerate(named if isinstance(named, tuple) else ()):
            if source.format != "text":
                message = f"split is for text, and data.{name}.{index}.format is {source.format}; set it to cut or drop"
                return Problem("data.too_long", message)
    return None


def labelled_rows_have_no_weight(recipe: Recipe) -> Problem | None:
    """What a run labels is seen once an epoch."""
    rows = recipe.data.pseudo_label.rows if recipe.data.pseudo_label else ()
    for index, source in enumerate(rows):
        if source.weight != 1:
            where = f"data.pseudo_label.rows.{index}.weight"
            return Problem(where, f"{source.weight:g}: an epoch sees labelled rows once; leave it out")
    return None


DATA_RULES: tuple[Callable[[Recipe], Problem | None], ...] = (
    some_rows_are_left_to_train,
    time_decides_alone,
    some_lengths_are_kept,
    pseudo_labels_are_answers,
    what_is_learned_fits_a_format,
    sources_name_something,
    encodings_are_known,
    test_names_a_source,
    only_text_is_split,
    labelled_rows_have_no_weight,
)
