"""What rank 0 does before a run: the stores of all sources, made or found in the cache, and the rows of each split."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainer import __version__, ranks
from trainer.config.data import Data
from trainer.config.recipe import Recipe
from trainer.data import pseudo_label, splitting
from trainer.data.cache import Cache
from trainer.data.chunk import Wanted
from trainer.data.duplicates import wants_signatures
from trainer.data.encode import Encoder
from trainer.data.facts import Numbers
from trainer.data.findings import Findings
from trainer.data.images import identity as images_identity
from trainer.data.reading import read_all
from trainer.data.row import BadRow
from trainer.data.selection import LEAKS, REVIEW, Selection, label_columns, select
from trainer.data.sources import identity, name_of, test_sources, train_sources, validation_sources
from trainer.data.split import Split
from trainer.data.store import Growing, Store
from trainer.data.tokenise import Sources, Tokeniser, tokenise
from trainer.errors import DataError, Problem, RunError
from trainer.plan.files import write_json
from trainer.plan.manifest import Manifest, epoch_rows

FORMAT = 3
"""Raised when what is written changes its meaning, so that an older preparation is not read."""
SPLITS = ("train", "validation", "test")
CHOSEN, CONTENT = "chosen", "content.json"
SHOWN = ("quarantine.jsonl", REVIEW, LEAKS)
"""Files that stand in the run folder too."""

_ELSEWHERE: Mapping[str, Any] = {
    **dict.fromkeys(("train", "validation", "test", "packing", "shuffle", "pseudo_label", "max_bad_rows"), True),
    **dict.fromkeys(("workers", "cache", "streaming", "shuffle_buffer"), True),
    "clean": {"duplicates", "similarity", "leakage", "benchmarks", "label_noise"},
}
"""Keys of `data:` that change no store, or only by what is wanted of its rows."""


class Preparation:
    """One recipe, one tokenizer, and the folder of a run."""

    def __init__(self, recipe: Recipe, encoder: Encoder, folder: Path) -> None:
        self.recipe, self.data, self.encoder, self.folder = recipe, recipe.data, encoder, folder
        self.findings = Findings(recipe.data.max_bad_rows)
        self.labelled = pseudo_label.label(recipe, folder)
        self.lists = _lists(recipe.data, self.labelled.sources)
        # Other nodes may not see this one's home; all see the run folder.
        self.is_shared = recipe.data.cache and ranks.world_size() == ranks.local_world_size()
        self.cache = Cache(ranks.cache_folder() / "data" if self.is_shared else folder / "data")

    def prepare(self) -> None:
        """Writes the rows of each split to `folder/data/chosen` unless they are there.

        DataError for the rows, RecipeError for keys that do not fit them, RunError where nothing can be written.
        """
        identities = {name: self._identities(sources) for name, sources in self.lists.items()}
        self.findings.raise_if_any()
        keys = {name: self._key(name, identities[name]) for name in self.lists}
        settings = self.data.model_dump(mode="json", exclude={"packing", "shuffle", "workers", "cache"})
        key = _hash([FORMAT, keys, settings, self.recipe.train.seed])
        try:
            if _is_whole(self.folder, key):
                return
            self.cache.tidy()
            stores = {name: self._store(name, keys[name], identities[name]) for name in self.lists}
            self.findings.raise_if_any()
            self._choose({name: store for name, store in stores.items() if store is not None}, key)
            if not self.is_shared:
                self.cache.keep({*keys.values(), CHOSEN})
        except OSError as error:
            where = error.filename or self.folder
            way_out = ", or set data.cache: false, which keeps them in the run folder" if self.is_shared else ""
            message = f"{where}: the tokenised rows cannot be written ({error.strerror or error}); make room{way_out}"
            raise RunError(message) from error

    def _identities(self, sources: Sources) -> list[Any]:
        """What changes with the rows and with the images that they name; what cannot be read goes to the findings."""
        found = []
        for key, source in sources:
            try:
                found.append(identity(source))
                if source.format in ("image", "image_text"):
                    found.append([images_identity(read_all(self.recipe.task, key, source))])
            except DataError as error:
                for problem in error.problems:
                    self.findings.add(key, problem)
        return found

    def _key(self, name: str, identities: list[Any]) -> str:
        """A hash of all that a store depends on."""
        sources = [source.model_dump(mode="json", exclude={"weight"}) for _, source in self.lists[name]]
        settings = self.data.model_dump(mode="json", exclude=_ELSEWHERE)
        encoder = None if name not in SPLITS else self.encoder.identity
        return _hash([FORMAT, __version__, identities, sources, settings, encoder, asdict(self._wanted(name))])

    def _wanted(self, name: str) -> Wanted:
        """What is kept of the rows of a list; of benchmarks, what leaks are found by."""
        is_split = name in SPLITS
        return Wanted(
            of_tokens=self._of_tokens(name) if is_split else (),
            columns=columns(self.recipe) if is_split else (),
            signatures=wants_signatures(self.data),
            images=is_split and any(source.format in ("image", "image_text") for _, source in self.lists[name]),
            texts=name == "train" and self.data.clean.label_noise is not None,
        )

    def _of_tokens(self, name: str) -> tuple[str, ...]:
        """The arrays of tokens that are kept of a split."""
        paired = any(source.format == "pair" for _, source in self.lists[name])
        return tuple(dict.fromkeys([*(["types"] if paired else []), *self.recipe.task.arrays]))

    def _store(self, name: str, key: str, identities: list[Any]) -> Store | None:
        """The store of a list, from the cache or made; None where its rows are wrong, which the findings say."""
        place = self.cache.find(key)
        if place is None:
            place = self.cache.make(key, lambda folder: self._tokenise(name, folder, identities))
            return None if place is None else Store(place)
        store = Store(place)
        for row in store.left_out():
            if row.reason == "wrong":
                self.findings.add(name, BadRow.at(row.source, row.line, row.why))
        return store

    def _tokenise(self, name: str, folder: Path, identities: list[Any]) -> bool:
        """Whether a folder holds all rows of a list now."""
        sources = self.lists[name]
        tokeniser = Tokeniser(self.data, sources, self.encoder if name in SPLITS else None, self._wanted(name))
        tokenise(tokeniser, self.findings, folder, self.data.workers)
        if not self.findings and self._identities(sources) != identities:
            message = "changed while it was read; start again when it is written"
            self.findings.add(name, Problem(" or ".join(name_of(source) for _, source in sources), message))
        return not self.findings

    def _choose(self, stores: Mapping[str, Store], key: str) -> None:
        """Writes which rows each split sees, and shows in the run folder what a user should see."""
        place = self.folder / "data" / CHOSEN
        unfinished = place.with_name(f".{CHOSEN}")
        try:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            splits = {name: store for name, store in stores.items() if name in SPLITS}
            with (unfinished / SHOWN[0]).open("w", encoding="utf-8") as quarantine:
                for store in splits.values():
                    quarantine.writelines(row.to_line() for row in store.left_out())
                quarantine.writelines(row.to_line() for row in self.labelled.left_out)
                selection = select(self.recipe, stores, unfinished, quarantine)
            for name in selection.splits():
                with closing(Growing(unfinished / f"{name}.rows.npy", np.int64)) as file:
                    for rows in selection.blocks(name):
                        file.append(rows)
            content = {
                "key": key,
                "stores": {name: str(store.folder.resolve()) for name, store in splits.items()},
                "manifest": self._manifest(splits, selection).to_json(),
                "notes": [
                    *dict.fromkeys(note for store in stores.values() for note in store.info.notes),
                    *selection.notes,
                ],
            }
            write_json(unfinished / CONTENT, content)
            shutil.rmtree(place, ignore_errors=True)
            unfinished.rename(place)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        for name in SHOWN:
            _show(place / name, self.folder / name)

    def _manifest(self, stores: Mapping[str, Store], selection: Selection) -> Manifest:
        """The counts of all splits."""
        counts = Counter[str](row.reason for row in self.labelled.left_out)
        counts.update(selection.left_out)
        for store in stores.values():
            counts.update(store.info.left_out)
        found = {name: _counts(store, selection.blocks(name)) for name, store in selection.splits().items()}
        counted = Manifest(
            train_rows=None,
            validation_rows=found["validation"].examples if "validation" in found else 0,
            test_rows=found["test"].examples if "test" in found else 0,
            cut=sum(store.info.cut for store in stores.values()),
            divided=sum(store.info.divided for store in stores.values()),
            left_out=dict(counts),
        )
        if "train" not in found:
            return counted
        train = found["train"]
        return replace(
            counted,
            train_rows=train.examples,
            train_tokens=train.tokens,
            train_targets=train.targets,
            longest=train.longest,
            epoch_rows=epoch_rows([source.weight for source in self.data.train], train.by_source.tolist()),
        )


@dataclass
class _Counts:
    """Sums over the examples of a split."""

    examples: int = 0
    tokens: int = 0
    targets: int = 0
    longest: int = 0
    by_source: Numbers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def _counts(store: Store, blocks: Iterable[Numbers]) -> _Counts:
    counts = _Counts()
    for rows in blocks:
        some = store.split(rows)
        counts.examples += len(some)
        counts.tokens += int(some.lengths.sum())
        counts.targets += int(some.targets.sum())
        counts.longest = max(counts.longest, int(some.lengths.max(initial=0)))
        by_source = np.bincount(some.source, minlength=len(counts.by_source))
        counts.by_source = by_source + np.pad(counts.by_source, (0, len(by_source) - len(counts.by_source)))
    return counts


def _lists(data: Data, labelled: Sources) -> dict[str, Sources]:
    """The sources that are read together, by split or by key of a benchmark; `labelled` train besides the others."""
    named: dict[str, Sources] = {
        "train": [] if data.streaming else [*train_sources(data), *labelled],
        "validation": validation_sources(data),
        "test": test_sources(data),
    }
    benchmarks = {f"data.clean.benchmarks.{number}": source for number, source in enumerate(data.clean.benchmarks)}
    return {name: found for name, found in named.items() if found} | {
        key: [(key, source)] for key, source in benchmarks.items()
    }


def columns(recipe: Recipe) -> tuple[str, ...]:
    """The columns that something is told of, by name."""
    split = [name for _, name in splitting.columns(recipe.data)]
    return tuple(dict.fromkeys([*recipe.task.columns(), *split, *label_columns(recipe)]))


def _is_whole(folder: Path, key: str) -> bool:
    """Whether a run folder holds the rows of this key, and their stores are still there."""
    path = folder / "data" / CHOSEN / CONTENT
    if not path.is_file():
        return False
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["key"] != key:
        return False
    places = [Path(place) for place in content["stores"].values()]
    return all(Cache(place.parent).find(place.name) for place in places)


def splits_of(stores: Mapping[str, Store], rows: Mapping[str, Numbers]) -> dict[str, Split]:
    """The examples of each split; those that are held out stand in the store of the training rows."""
    return {name: stores[name if name in stores else "train"].split(numbers) for name, numbers in rows.items()}


def _show(path: Path, shown: Path) -> None:
    """A file of the preparation stands in the run folder; none does where there is nothing to see."""
    if path.is_file() and path.stat().st_size:
        shutil.copyfile(path, shown)
    else:
        shown.unlink(missing_ok=True)


def _hash(parts: Any) -> str:
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()
