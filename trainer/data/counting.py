"""How many rows a recipe has, before anything is tokenised."""

from collections.abc import Sequence
from itertools import islice

from trainer.config.data import HeldOut, Source
from trainer.config.recipe import Recipe
from trainer.data import splitting
from trainer.data.findings import LOOKED_AT, Findings
from trainer.data.formats import check_fields
from trainer.data.reading import read_all
from trainer.data.sources import count_rows, test_sources, train_sources, validation_sources
from trainer.errors import DataError, Problem
from trainer.plan.manifest import Manifest, epoch_rows


def count(recipe: Recipe) -> Manifest:
    """The rows of each split; the first rows of each source are looked at. DataError holds what is wrong with them.

    Exact where all rows are kept: what is cleaned away, too long or said twice is known once rows are tokens.
    """
    data = recipe.data
    check_fields(data)
    findings = Findings(data.max_bad_rows)
    train = None if data.streaming else _count(recipe, train_sources(data), findings)
    held = (validation_sources(data), test_sources(data))
    validation, test = (sum(_count(recipe, sources, findings)) for sources in held)
    findings.raise_if_any()
    if train is None:
        return Manifest(train_rows=None, validation_rows=validation, test_rows=test)
    rows = sum(train)
    held_out = splitting.sizes(
        rows, *(held if isinstance(held, HeldOut) else None for held in (data.validation, data.test))
    )
    rows -= sum(held_out)
    return Manifest(
        train_rows=rows,
        validation_rows=validation + held_out[0],
        test_rows=test + held_out[1],
        epoch_rows=epoch_rows(
            [source.weight for source in data.train], [rows * of_source / max(1, sum(train)) for of_source in train]
        ),
    )


def _count(recipe: Recipe, sources: Sequence[tuple[str, Source]], findings: Findings) -> list[int]:
    """The rows of each source that are not wrong, as far as was looked."""
    counts = []
    for key, source in sources:
        try:
            rows = count_rows(source)
        except DataError as error:
            for problem in error.problems:
                findings.add(key, problem)
            continue
        for example in islice(read_all(recipe.task, key, source), LOOKED_AT):
            if isinstance(example, Problem):
                findings.add(key, example)
                rows -= 1
        counts.append(rows)
    return counts
