"""Which of the stored rows each split sees: duplicates and leaks are left out, others held out, doubtful ones told."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from trainer.config.data import Clean, Data, HeldOut
from trainer.data import leakage, splitting
from trainer.data.duplicates import Rows, exact_groups, near_groups
from trainer.data.facts import Facts
from trainer.data.label_noise import suspects
from trainer.data.labels import unseen_labels
from trainer.data.leakage import Leak
from trainer.data.left_out import LeftOut, Reason
from trainer.data.store import Store
from trainer.errors import DataError, Problem
from trainer.plan.files import write_json

HELD_OUT = {"validation": splitting.VALIDATION, "test": splitting.TEST}
_BLOCK = 1 << 18
"""Training rows that are looked for elsewhere at a time."""
LEAKS, REVIEW = "leakage.json", "review.jsonl"


@dataclass(frozen=True)
class Selection:
    """The numbers of the rows of each split in their store, and what was found on the way."""

    rows: dict[str, Rows]
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences for the user."""

    def drop(self, rows: Mapping[int, LeftOut]) -> None:
        """Leaves out some of the training rows; DataError where none stays."""
        self.left_out.extend(rows.values())
        train = self.rows["train"]
        self.rows["train"] = train[~np.isin(train, list(rows))]
        if len(self.rows["train"]) == 0:
            message = f"all {len(train):,} training rows stand elsewhere too; train on others, or set it to report"
            raise DataError([Problem("data.clean.leakage", message)])


def select(data: Data, seed: int, stores: Mapping[str, Store], folder: Path) -> Selection:
    """The rows of each split; `stores` are those of train, of validation and test where they have their own sources,
    and of benchmarks by their keys. Leaks and doubtful labels are told in files of the folder.

    DataError where leaks are refused or too few rows are left, RecipeError for columns that do not fit.
    """
    rows = {name: np.arange(stores[name].info.rows) for name in ("train", *HELD_OUT) if name in stores}
    selection = Selection(rows)
    if "train" not in stores:
        return selection
    facts = stores["train"].facts()
    alike = None if facts.signatures is None else near_groups(facts.signatures, data.clean.similarity)
    if data.clean.duplicates == "exact":
        selection.drop(_duplicates(facts, exact_groups(facts.digest), "the same"))
    elif data.clean.duplicates == "near" and alike is not None:
        selection.drop(_duplicates(facts, alike, "nearly the same"))
    _hold_out(facts, data, seed, alike, selection)
    elsewhere = {name: stores[name].facts() for name in stores if name != "train"}
    elsewhere |= {name: facts.select(rows) for name, rows in selection.rows.items() if name not in stores}
    _look_for_leaks(facts, elsewhere, data.clean, selection, folder)
    _look_at_labels(facts, elsewhere, stores["train"], data, selection, folder)
    return selection


def label_columns(data: Data) -> list[str]:
    """The columns that hold labels, by what the recipe says of them."""
    named = [held.stratify for held in (data.validation, data.test) if isinstance(held, HeldOut)]
    pairs = [source.fields.get("label", "label") for source in data.train if source.format == "pair"]
    return list(dict.fromkeys(name for name in (*named, data.clean.label_noise, *pairs) if name is not None))


def _duplicates(facts: Facts, groups: Rows, relation: str) -> dict[int, LeftOut]:
    """The rows of each group but the first."""
    return {
        row: _of_row(facts, "duplicate", row, f"says {relation} as {facts.where(int(groups[row]))}")
        for row in np.flatnonzero(groups != np.arange(len(groups))).tolist()
    }


def _hold_out(facts: Facts, data: Data, seed: int, alike: Rows | None, selection: Selection) -> None:
    """Takes the rows of validation and of test out of the training rows; those alike stand on one side."""
    held_out = {
        name: held for name, held in (("validation", data.validation), ("test", data.test)) if isinstance(held, HeldOut)
    }
    if not held_out:
        return
    rows = selection.rows["train"]
    if len(rows) < len(facts):
        facts = facts.select(rows)
        alike = None if alike is None else exact_groups(alike[rows])
    sides = splitting.split(facts, held_out.get("validation"), held_out.get("test"), seed, alike)
    selection.notes.extend(splitting.findings(facts, data, sides))
    for name in held_out:
        selection.rows[name] = rows[sides == HELD_OUT[name]]
    selection.rows["train"] = rows[sides == splitting.TRAIN]


def _look_for_leaks(
    facts: Facts, elsewhere: Mapping[str, Facts], clean: Clean, selection: Selection, folder: Path
) -> None:
    """Tells which training rows stand elsewhere too, and leaves them out or refuses them where that is asked for."""
    found = list(_leaks(facts, selection.rows["train"], elsewhere, clean.similarity))
    if found:
        write_json(folder / LEAKS, [leak.to_json() for leak in found])
    if clean.leakage == "error":
        leakage.refuse(found)
    selection.notes.extend(leakage.sentences(found))
    if clean.leakage == "drop":
        selection.drop(
            {
                leak.row: _of_row(facts, "leaked", leak.row, f"stands in {leak.split} too: {leak.other}")
                for leak in found
            }
        )


def _leaks(facts: Facts, train: Rows, elsewhere: Mapping[str, Facts], similarity: float) -> Iterator[Leak]:
    """Those of all training rows, by their numbers in the store."""
    for start in range(0, len(train), _BLOCK):
        rows = train[start : start + _BLOCK]
        for leak in leakage.leaks(facts.select(rows), elsewhere, similarity):
            yield replace(leak, row=int(rows[leak.row]))


def _look_at_labels(
    facts: Facts, elsewhere: Mapping[str, Facts], store: Store, data: Data, selection: Selection, folder: Path
) -> None:
    """Tells which labels other rows contradict, and which no training row has."""
    if (column := data.clean.label_noise) is not None:
        found = suspects(facts, store.texts(), column, data.clean.similarity)
        lines = (json.dumps(suspect.to_json(), ensure_ascii=False) for suspect in found)
        (folder / REVIEW).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        selection.notes.append(f"{len(found):,} rows have a label in {column} that others contradict: see {REVIEW}")
    measured = {name: some for name, some in elsewhere.items() if name in HELD_OUT}
    for column in label_columns(data):
        unseen = unseen_labels(column, facts.select(selection.rows["train"]), measured)
        selection.notes.extend(str(label) for label in unseen)


def _of_row(facts: Facts, reason: Reason, row: int, why: str) -> LeftOut:
    return LeftOut(reason, facts.files[facts.file[row]], int(facts.line[row]), why)
