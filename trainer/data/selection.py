"""Which of the stored rows each split sees: duplicates and leaks are left out, others held out, doubtful ones told."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

import numpy as np

from trainer.config.classify import Classify
from trainer.config.data import Clean, Data, HeldOut
from trainer.config.recipe import Recipe
from trainer.config.relations import Relations
from trainer.data import leakage, splitting
from trainer.data.duplicates import Rows, exact_groups, near_groups
from trainer.data.facts import Facts, Numbers
from trainer.data.label_noise import suspects
from trainer.data.labels import unseen_labels
from trainer.data.leakage import Leak
from trainer.data.row import LeftOut, Reason
from trainer.data.splitting import Sides
from trainer.data.store import BLOCK, Store
from trainer.errors import DataError, Problem
from trainer.plan.files import write_json

SIDES = {"train": splitting.TRAIN, "validation": splitting.VALIDATION, "test": splitting.TEST}
_LEFT_OUT = -1
LEAKS, REVIEW = "leakage.json", "review.jsonl"


@dataclass
class Selection:
    """The rows of each split, and what was found on the way."""

    stores: Mapping[str, Store]
    """Those of train, of validation and test where they have their own sources, and of benchmarks by their keys."""
    sides: Sides
    """The side of each row in the store of train, int8 [N]; one byte, since there may be many."""
    quarantine: TextIO
    """Where each row left out is told."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows left out, by reason."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the user."""

    def splits(self) -> dict[str, Store]:
        """The splits that hold rows, each with the store that they stand in."""
        return {
            name: self.stores[name if name in self.stores else "train"]
            for name, side in SIDES.items()
            if name in self.stores or np.any(self.sides == side)
        }

    def blocks(self, split: str) -> Iterator[Numbers]:
        """The numbers of the rows of a split in its store, some at a time."""
        apart = split != "train" and split in self.stores
        count = self.stores[split].info.rows if apart else len(self.sides)
        for start in range(0, count, BLOCK):
            numbers = np.arange(start, min(start + BLOCK, count))
            yield numbers if apart else numbers[self.sides[numbers] == SIDES[split]]

    def drop(self, facts: Facts, reason: Reason, rows: Iterable[tuple[int, str]]) -> None:
        """Leaves out some of the training rows, each with the reason; DataError where none stays."""
        for row, why in rows:
            if self.sides[row] != _LEFT_OUT:
                self.sides[row] = _LEFT_OUT
                self.left_out[reason] += 1
                self.quarantine.write(
                    LeftOut(reason, facts.files[facts.file[row]], int(facts.line[row]), why).to_line()
                )
        if not np.any(self.sides == splitting.TRAIN):
            message = "all training rows stand elsewhere too; train on others, or set it to report"
            raise DataError([Problem("data.clean.leakage", message)])


def select(recipe: Recipe, stores: Mapping[str, Store], folder: Path, quarantine: TextIO) -> Selection:
    """The rows of each split. Leaks and doubtful labels are told in files of the folder.

    DataError where leaks are refused or too few rows are left, RecipeError for columns that do not fit.
    """
    data, seed = recipe.data, recipe.train.seed
    count = stores["train"].info.rows if "train" in stores else 0
    selection = Selection(stores, np.full(count, splitting.TRAIN, dtype=np.int8), quarantine)
    if count:
        alike = _leave_out_duplicates(selection, data.clean)
        _hold_out(selection, data, seed, alike)
        elsewhere = {name: stores[name].facts() for name in stores if name != "train"}
        for name, store in selection.splits().items():
            if name not in stores:
                elsewhere[name] = store.facts(np.concatenate(list(selection.blocks(name))))
        _look_for_leaks(selection, elsewhere, data.clean, folder)
        _look_at_labels(selection, elsewhere, recipe, folder)
    return selection


def label_columns(recipe: Recipe) -> list[str]:
    """The columns that hold labels, by what the recipe says of them."""
    data, task = recipe.data, recipe.task
    learned = task.label if isinstance(task, Classify | Relations) and task.problem != "regression" else None
    named = [held.stratify for held in (data.validation, data.test) if isinstance(held, HeldOut)]
    pairs = [source.fields.get("label", "label") for source in data.train if source.format == "pair"]
    return list(dict.fromkeys(name for name in (learned, *named, data.clean.label_noise, *pairs) if name is not None))


def _leave_out_duplicates(selection: Selection, clean: Clean) -> Rows | None:
    """The number of the first row that says nearly the same [N]; None where nobody asks for it."""
    facts = selection.stores["train"].facts()
    alike = None if facts.signatures is None else near_groups(facts.signatures, clean.similarity)
    groups = exact_groups(facts.digest) if clean.duplicates == "exact" else alike
    if clean.duplicates != "keep" and groups is not None:
        relation = "the same" if clean.duplicates == "exact" else "nearly the same"
        others = np.flatnonzero(groups != np.arange(len(groups))).tolist()
        whys = ((row, f"says {relation} as {facts.where(int(groups[row]))}") for row in others)
        selection.drop(facts, "duplicate", whys)
    return alike


def _hold_out(selection: Selection, data: Data, seed: int, alike: Rows | None) -> None:
    """Takes the rows of validation and of test out of the training rows; those alike stand on one side."""
    validation, test = (held if isinstance(held, HeldOut) else None for held in (data.validation, data.test))
    if validation is None and test is None:
        return
    facts = selection.stores["train"].facts()
    rows: Numbers | slice = slice(None)
    if selection.left_out:
        rows = np.flatnonzero(selection.sides == splitting.TRAIN)
        facts = facts.select(rows)
        alike = None if alike is None else exact_groups(alike[rows])
    sides = splitting.split(facts, validation, test, seed, alike)
    selection.notes.extend(splitting.findings(facts, data, sides))
    selection.sides[rows] = sides


def _look_for_leaks(selection: Selection, elsewhere: Mapping[str, Facts], clean: Clean, folder: Path) -> None:
    """Tells which training rows stand elsewhere too, and leaves them out or refuses them where that is asked for."""
    train, found = selection.stores["train"], list[Leak]()
    for rows in selection.blocks("train") if elsewhere else ():
        leaks = leakage.leaks(train.facts(rows), elsewhere, clean.similarity)
        found.extend(replace(leak, row=int(rows[leak.row])) for leak in leaks)
    if found:
        write_json(folder / LEAKS, [leak.to_json() for leak in found])
    if clean.leakage == "error":
        leakage.refuse(found)
    selection.notes.extend(leakage.sentences(found))
    if clean.leakage == "drop":
        whys = ((leak.row, f"stands in {leak.split} too: {leak.other}") for leak in found)
        selection.drop(train.facts(), "leaked", whys)


def _look_at_labels(selection: Selection, elsewhere: Mapping[str, Facts], recipe: Recipe, folder: Path) -> None:
    """Tells which labels other rows contradict, and which no training row has."""
    train, data = selection.stores["train"], recipe.data
    if (column := data.clean.label_noise) is not None:
        found = suspects(train.facts(), train.texts(), column, data.clean.similarity)
        lines = (json.dumps(suspect.to_json(), ensure_ascii=False) for suspect in found)
        (folder / REVIEW).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        selection.notes.append(f"{len(found):,} rows have a label in {column} that others contradict: see {REVIEW}")
    measured = {name: facts for name, facts in elsewhere.items() if name in SIDES}
    for column in label_columns(recipe):
        rows = np.flatnonzero(selection.sides == splitting.TRAIN)
        unseen = unseen_labels(column, train.facts(rows), measured)
        selection.notes.extend(str(label) for label in unseen)
