"""What the model will see of a recipe's rows, from the preparation that training uses; no run folder is touched."""

import json
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from trainer import ranks
from trainer.config.classify import Classify
from trainer.config.recipe import Recipe
from trainer.config.relations import Relations
from trainer.data import corpus as corpora
from trainer.data import steps
from trainer.data import tokenizer as tokenizers
from trainer.data.corpus import Corpus
from trainer.data.encode import Encoder
from trainer.data.epochs import Epochs, weighted
from trainer.data.packing import Layout
from trainer.data.selection import LEAKS, REVIEW, label_columns
from trainer.data.sources import name_of, test_sources, train_sources, validation_sources
from trainer.data.targets import name_of as label_name
from trainer.errors import Problem
from trainer.plan.choices import choose_processes
from trainer.report import data_facts as facts
from trainer.report.data_facts import BatchFacts, Bin, DuplicateFacts, LabelFacts, Part, SplitFacts
from trainer.report.data_problems import ending_share, problems
from trainer.report.data_rows import Decoder, ShownRow, shown
from trainer.report.stream_start import stream_start

REVIEWED = 20
"""Rows with a doubtful label that are told of; a run folder lists all."""


@dataclass(frozen=True)
class Report:
    """Everything that is told; its fields are those of the JSON."""

    max_length: int
    too_long: str
    streaming: bool
    """Whether the training rows are the first ones of a stream."""
    sources: dict[str, dict[str, int]]
    """Source -> split -> rows."""
    splits: dict[str, SplitFacts]
    lengths: tuple[Bin, ...]
    """Tokens of the training rows, before `data.max_length` applies."""
    labels: tuple[LabelFacts, ...]
    duplicates: DuplicateFacts
    leaks: dict[str, dict[str, int]]
    """Split or benchmark -> how alike -> training rows that stand there too."""
    review: tuple[dict[str, Any], ...]
    """The first REVIEWED lines of review.jsonl: rows whose label others contradict."""
    ends: float | None
    """Share of the training rows left whole that teach the end of a turn."""
    batches: BatchFacts
    left_out: dict[str, int]
    """Rows left out, by reason."""
    notes: tuple[str, ...]
    """What the preparation says besides, such as encodings."""
    rows: tuple[ShownRow, ...]
    problems: tuple[Problem, ...]
    """Why training could not work."""

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return asdict(self)

    def sentences(self) -> list[str]:
        """What no table holds."""
        batches = self.batches
        padding = (
            f"Padding: {batches.waste_padded:.1%} of what is computed without packing, {batches.waste_packed:.1%} with "
            f"packing, whose rows are {batches.packing_efficiency:.1%} full (over the first "
            f"{_counted(batches.steps, 'step')} on {_counted(batches.ranks, 'device')}). The recipe "
            f"{'packs' if batches.packing else 'does not pack'}."
        )
        said = [padding]
        if self.streaming:
            said.append("The training rows are a stream: told of are the first ones of each source.")
        if self.ends is not None:
            said.append(f"End of turn: {self.ends:.1%} of the training rows that are not cut end with one, learned.")
        near = "" if self.duplicates.near is None else f", {self.duplicates.near:,} nearly the same"
        said.append(
            f"Duplicates that train: {_counted(self.duplicates.exact, 'row')} the same as an earlier one{near}."
        )
        if self.left_out:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
            said.append(f"Left out: {_counted(sum(self.left_out.values()), 'row')} ({reasons}).")
        return said + list(self.notes)


def make(recipe: Recipe, rows: int) -> Report:
    """The report of a recipe with so many rows of its training split.

    What forbids training is in `problems`, but for what the preparation itself refuses: DataError, RecipeError.
    """
    with tempfile.TemporaryDirectory(prefix="shardtune-data-") as name:
        folder = Path(name)
        tokenizer = tokenizers.load(recipe, folder)
        corpus = corpora.prepare(recipe, tokenizer, folder)
        parts = _parts(corpus)
        left_out = Counter(corpus.manifest.left_out)
        encoder = Encoder(recipe, tokenizer)
        if "train" not in parts:
            train, reasons = stream_start(recipe, encoder, folder)
            parts = {"train": train, **parts}
            left_out.update(reasons)
        labels = [facts.labels_by_split(column, parts) for column in label_columns(recipe)]
        found = tuple(one for one in labels if one is not None)
        ends = ending_share(parts["train"], encoder) if recipe.task.kind == "causal_lm" else None
        return Report(
            max_length=recipe.data.max_length,
            too_long=recipe.data.too_long,
            streaming=recipe.data.streaming,
            sources=facts.rows_by_source(parts, _names(recipe)),
            splits={split: facts.of_split(part) for split, part in parts.items()},
            lengths=facts.histogram(parts["train"].facts.length, recipe.data.max_length),
            labels=found,
            duplicates=facts.duplicates(parts["train"].facts, recipe.data.clean),
            leaks=_leaks(folder / LEAKS),
            review=_review(folder / REVIEW),
            ends=ends,
            batches=_batches(recipe, steps.layout(recipe, tokenizer), parts["train"]),
            left_out=dict(left_out),
            notes=corpus.notes,
            rows=_rows(recipe, parts["train"], rows, Decoder(tokenizer)),
            problems=tuple(problems(recipe, parts["train"], found, ends)),
        )


def _parts(corpus: Corpus) -> dict[str, Part]:
    """The splits that hold rows."""
    splits = {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}
    return {
        name: Part(split, corpus.facts(name), corpus.row_of(name))
        for name, split in splits.items()
        if split is not None and len(split)
    }


def _names(recipe: Recipe) -> dict[str, list[str]]:
    """The names of the sources that the rows of each split come from."""
    named = {
        "train": train_sources(recipe.data),
        "validation": validation_sources(recipe.data),
        "test": test_sources(recipe.data),
    }
    names = {split: [name_of(source) for _, source in sources] for split, sources in named.items()}
    labelled = recipe.data.pseudo_label.rows if recipe.data.pseudo_label else ()
    names["train"] += [f"{name_of(source)} (pseudo_label)" for source in labelled]
    # Held-out rows are training rows.
    return {split: those or names["train"] for split, those in names.items()}


def _leaks(path: Path) -> dict[str, dict[str, int]]:
    """How many training rows stand elsewhere too."""
    leaks: dict[str, dict[str, int]] = {}
    for leak in json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []:
        kinds = leaks.setdefault(leak["split"], {})
        kinds[leak["kind"]] = kinds.get(leak["kind"], 0) + 1
    return leaks


def _review(path: Path) -> tuple[dict[str, Any], ...]:
    if not path.is_file():
        return ()
    with path.open(encoding="utf-8") as file:
        return tuple(json.loads(line) for line in islice(file, REVIEWED))


def _batches(recipe: Recipe, layout: Layout, train: Part) -> BatchFacts:
    weights = [source.weight for source in recipe.data.train]
    members = weighted(weights, train.split.source) if any(weight != 1 for weight in weights) else ()
    seed = recipe.train.seed if recipe.data.shuffle else None
    devices = int(choose_processes(recipe, ranks.accelerators()).value)
    return facts.batches(train.split, Epochs(train.split.lengths, layout, seed, members), layout, devices)


def _rows(recipe: Recipe, train: Part, count: int, decoder: Decoder) -> tuple[ShownRow, ...]:
    """So many examples, from all over the split."""
    column = train.facts.columns[recipe.task.label] if isinstance(recipe.task, Classify | Relations) else None
    chosen = np.linspace(0, len(train.split) - 1, min(count, len(train.split))).astype(np.int64)
    rows = train.row_of[chosen].tolist()
    labels = [None if column is None else label_name(column.values[column.codes[row]]) for row in rows]
    return tuple(
        shown("train", train.split, number, train.facts.where(row), decoder, label)
        for number, row, label in zip(chosen.tolist(), rows, labels, strict=True)
    )


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
