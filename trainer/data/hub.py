"""Rows of a set on the Hugging Face hub, streamed through the `datasets` library."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.data import tables
from trainer.data.files import HubSet, choose_split, neighbours
from trainer.data.row import Row
from trainer.errors import DataError, Problem

if TYPE_CHECKING:
    from datasets import IterableDataset

PATIENCE = 10.0
"""Seconds that the hub has for its first answer."""


def rows(part: HubSet) -> Iterator[Row | Problem]:
    """The rows of a split, each with its number from 1; DataError where the hub does not give them."""
    with _stream(part) as (split, stream):
        # As tables, so that images stay bytes.
        yield from tables.rows(f"{part.name}:{split}", stream.with_format("arrow").iter(tables.BATCH_ROWS))


def count(part: HubSet) -> int:
    """Rows of a split, as the set itself says; where it does not, they are all read."""
    with _stream(part) as (split, stream):
        about = stream.info.splits
        if about and split in about and about[split].num_examples:
            return int(about[split].num_examples)
        return sum(table.num_rows for table in stream.with_format("arrow").iter(tables.BATCH_ROWS))


@contextmanager
def _stream(part: HubSet) -> "Iterator[tuple[str, IterableDataset]]":
    """The split of a set and its name; DataError for what goes wrong with it."""
    import datasets
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]
    from pyarrow import ArrowException

    failures = (OSError, ValueError, RuntimeError, ArrowException, HTTPError, datasets.exceptions.DatasetsError)
    # Else a stream is made one of torch's sets, too, and torch is imported for that.
    datasets.config.TORCH_AVAILABLE = False
    revision = commit(part.name, part.revision)
    try:
        sets = datasets.load_dataset(part.name, part.config, revision=revision, streaming=True)
        split = choose_split(part.name, part.split, list(sets))
        yield split, sets[split]
    except failures as error:
        raise DataError([Problem(part.name, f"cannot be read from the hub: {_reason(error)}")]) from error


@functools.cache
def commit(name: str, revision: str | None) -> str:
    """The commit of a set, asked once in a process; DataError where the hub does not tell."""
    from huggingface_hub import HfApi

    # HTTPError is the base of what the hub's own HTTP client raises, whichever client that is.
    from huggingface_hub.errors import HTTPError, RepositoryNotFoundError, RevisionNotFoundError  # type: ignore[attr-defined]

    try:
        found = HfApi().dataset_info(name, revision=revision, timeout=PATIENCE)
    except RevisionNotFoundError as error:
        raise DataError([Problem(name, f"has no revision {revision} on the hub")]) from error
    except RepositoryNotFoundError as error:
        message = f"no such file or folder, and no set of the hub that you may read{neighbours(Path(name))}"
        raise DataError([Problem(name, message)]) from error
    except (OSError, HTTPError) as error:
        message = (
            f"no such file or folder, and the hub cannot be asked ({_reason(error)}); where there is no network, name "
            f"a folder that `datasets.load_dataset({name!r}).save_to_disk(...)` wrote elsewhere"
        )
        raise DataError([Problem(name, message)]) from error
    return str(found.sha)


def _reason(error: Exception) -> str:
    """What a library says, without the examples that it may add."""
    return " ".join(str(error).splitlines()[:2]) or type(error).__name__
