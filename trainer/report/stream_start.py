"""The first training rows of a stream, as it tokenises them."""

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np

from trainer.config.recipe import Recipe
from trainer.data.chunk import Wanted
from trainer.data.encode import Encoder
from trainer.data.findings import LOOKED_AT, Findings
from trainer.data.preparation import columns
from trainer.data.sources import read, train_sources
from trainer.data.store import Store, Writer
from trainer.data.tokenise import Stretch, Tokeniser
from trainer.errors import DataError, Problem
from trainer.report.data_facts import Part


def stream_start(recipe: Recipe, encoder: Encoder, folder: Path) -> tuple[Part, Counter[str]]:
    """The first LOOKED_AT rows of each training source that are kept, and how many others there are, by reason.

    DataError where more rows are wrong than may be, or where none is left.
    """
    sources, findings = train_sources(recipe.data), Findings(recipe.data.max_bad_rows)
    place = folder / "stream"
    place.mkdir()
    wanted = Wanted(columns=columns(recipe))
    tokeniser = Tokeniser(recipe.data, sources, encoder, wanted)
    with Writer(place, wanted) as store:
        for number, (key, source) in enumerate(sources):
            chunk = tokeniser(Stretch(number, 0, list(islice(read(source), LOOKED_AT))))
            for _, problem in chunk.wrong:
                findings.add(key, problem)
            store.add(key, chunk)
    findings.raise_if_any()
    left_out = Counter(store.info.left_out)
    if store.info.rows == 0:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        raise DataError([Problem("data.train", f"the first rows of the stream are all left out: {reasons}")])
    written, rows = Store(place), np.arange(store.info.rows)
    return Part(written.split(rows), written.facts(), written.row_of(rows)), left_out
