"""Which rows of a corpus belong to which of several tasks, and how often each is seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.config.data import Source
from trainer.config.multi_task import MultiTask
from trainer.config.recipe import Recipe
from trainer.data.corpus import Corpus
from trainer.data.facts import Numbers
from trainer.data.split import Split
from trainer.errors import DataError, Problem


@dataclass(frozen=True)
class Member:
    """The rows of one task."""

    corpus: Corpus
    """With them alone."""
    places: dict[str, Numbers]
    """By split: the number of each example of the whole there; -1 for one of another task."""


def member_of(recipe: Recipe, corpus: Corpus, name: str) -> Member:
    """The rows of one task; DataError where it has none to train on."""
    rows, places = {}, {}
    for split, chosen in corpus.rows.items():
        sources = _sources(recipe, corpus, split)
        mine = np.array([source.task == name for source in sources], dtype=np.bool_)
        rows[split] = chosen[mine[corpus.facts(split).source]]
        of_examples = mine[corpus.split(split).source]
        places[split] = np.where(of_examples, np.cumsum(of_examples) - 1, -1)
    if not len(rows["train"]):
        raise DataError(
            [Problem("data.train", f"no row is left for the task {name}; add some, or take it out of task.tasks")]
        )
    return Member(corpus.with_rows(rows), places)


def weights_of(recipe: Recipe, split: Split) -> Sequence[float]:
    """How often an epoch sees each row of each source of data.train."""
    own = [source.weight for source in recipe.data.train]
    task = recipe.task
    if not isinstance(task, MultiTask) or task.sampling == "size":
        return own
    names = [str(source.task) for source in recipe.data.train]
    counts = np.bincount(split.source, minlength=len(names))
    sizes = dict.fromkeys(names, 0)
    for name, count in zip(names, counts.tolist(), strict=True):
        sizes[name] += count
    if isinstance(task.sampling, dict):
        wanted = {name: task.sampling[name] for name in sizes}
    else:
        wanted = {name: size ** (1 / task.temperature) for name, size in sizes.items()}
    share = {name: sum(sizes.values()) * part / sum(wanted.values()) for name, part in wanted.items()}
    return [weight * share[name] / max(1, sizes[name]) for weight, name in zip(own, names, strict=True)]


def _sources(recipe: Recipe, corpus: Corpus, split: str) -> Sequence[Source]:
    """Those that the rows of a split are numbered by."""
    held = getattr(recipe.data, split) if split in corpus.stores else recipe.data.train
    assert isinstance(held, tuple), "a split with a store of its own has sources of its own"
    return held
