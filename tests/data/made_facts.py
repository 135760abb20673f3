"""Facts of rows that stand in no file, for the tests of this folder."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.data.facts import Column, Facts


def column(values: Sequence[Any]) -> Column:
    """A column with these values, one for each row."""
    distinct = {json.dumps(value): value for value in values}
    number = {name: place for place, name in enumerate(distinct)}
    return Column(np.array([number[json.dumps(value)] for value in values], dtype=np.int64), tuple(distinct.values()))


def facts(digests: Sequence[int], file: str = "a.jsonl", **columns: Sequence[Any]) -> Facts:
    """Rows that say what their digest says, from the lines of one file."""
    count = len(digests)
    return Facts(
        source=np.zeros(count, dtype=np.int32),
        file=np.zeros(count, dtype=np.int32),
        files=(file,),
        line=np.arange(1, count + 1),
        length=np.ones(count, dtype=np.int32),
        digest=np.array(digests, dtype=np.uint64),
        prompt=np.zeros(count, dtype=np.uint64),
        columns={name: column(values) for name, values in columns.items()},
    )
