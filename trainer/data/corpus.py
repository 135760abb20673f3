"""The tokenised rows of a run: prepared once by rank 0, and read by every rank."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.config.recipe import Recipe
from trainer.data.encode import Encoder
from trainer.data.facts import Facts, Numbers
from trainer.data.formats import check_fields
from trainer.data.kept_images import IMAGES, KeptImages
from trainer.data.preparation import CHOSEN, CONTENT, SPLITS, Preparation, splits_of
from trainer.data.rank_zero import once_a_node
from trainer.data.split import Split
from trainer.data.store import Store
from trainer.plan.manifest import Manifest

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["Corpus", "Split", "prepare"]


@dataclass(frozen=True)
class Corpus:
    """The splits, and what is known of them."""

    train: Split | None
    """None where the training rows are a stream."""
    validation: Split | None
    test: Split | None
    manifest: Manifest
    notes: tuple[str, ...]
    """What a user should know of the rows, as sentences."""
    stores: dict[str, Store]
    """By split; held-out rows stand in that of the training rows."""
    rows: dict[str, Numbers]
    """The numbers of each split's rows in its store [N]."""

    def held_out(self) -> dict[str, Split | None]:
        """The splits that training does not see."""
        return {"validation": self.validation, "test": self.test}

    def facts(self, split: str) -> Facts:
        """What is known of the rows of a split [N]."""
        return self._store(split).facts().select(self.rows[split])

    def row_of(self, split: str) -> Numbers:
        """The row, among those of a split, that each of its examples was made of [M]."""
        return self._store(split).row_of(self.rows[split])

    def split(self, name: str) -> Split:
        """The examples of a split that is there."""
        found = {"train": self.train, **self.held_out()}[name]
        assert found is not None, "it has rows"
        return found

    def with_rows(self, rows: dict[str, Numbers]) -> "Corpus":
        """Some rows of each split alone."""
        held = {name: self._store(name).split(some) for name, some in rows.items()}
        splits = {name: held.get(name) for name in SPLITS}
        return replace(self, rows=rows, **splits)  # type: ignore[arg-type]

    def marks(self, split: str) -> list[str]:
        """What the marks of a split's examples stand for, by number."""
        return self._store(split).info.marks

    def images(self, split: str) -> KeptImages:
        """The images of the examples of a split, where they are kept."""
        return KeptImages(self.facts(split).columns[IMAGES], self.row_of(split), self._store(split).folder)

    def _store(self, split: str) -> Store:
        return self.stores[split if split in self.stores else "train"]


def prepare(recipe: Recipe, tokenizer: "PreTrainedTokenizerBase", folder: Path) -> Corpus:
    """The splits of a recipe, tokenised into the cache or `folder/data` unless they are there; rows left out go to
    `folder/quarantine.jsonl`.

    Every rank calls this; rank 0 works, and the first rank of a node that does not see its folder. Every rank raises
    what rank 0 raises: DataError for the rows, RecipeError for keys that do not fit them or the tokenizer, RunError
    where nothing can be written.
    """

    def work() -> None:
        check_fields(recipe.data)
        Preparation(recipe, Encoder(recipe, tokenizer), folder).prepare()

    once_a_node(work, folder)
    return _open(folder / "data" / CHOSEN)


def _open(place: Path) -> Corpus:
    content = json.loads((place / CONTENT).read_text(encoding="utf-8"))
    stores = {name: Store(Path(folder)) for name, folder in content["stores"].items()}
    files = {name: place / f"{name}.rows.npy" for name in SPLITS}
    rows = {name: np.load(file, mmap_mode="r") for name, file in files.items() if file.is_file()}
    splits = splits_of(stores, rows)
    return Corpus(
        train=splits.get("train"),
        validation=splits.get("validation"),
        test=splits.get("test"),
        manifest=Manifest(**content["manifest"]),
        notes=tuple(content["notes"]),
        stores=stores,
        rows=rows,
    )
