"""From the recipe's sources to tokenised splits on disk, made once and read by every rank."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.config.data import HeldOut, Source
from trainer.config.recipe import Recipe
from trainer.data.encode import Encoder
from trainer.data.findings import Findings
from trainer.data.formats import Example, check_fields, examples
from trainer.data.held_out import held_out, held_out_size
from trainer.data.rank_zero import on_rank_zero
from trainer.data.sources import identity, train_sources, validation_sources
from trainer.data.split import Split
from trainer.data.tokenise import Tokeniser
from trainer.errors import DataError, RunError
from trainer.plan.manifest import Manifest

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

__all__ = ["Corpus", "Split", "count", "prepare"]

FORMAT = 1
"""Raised when what is written changes its meaning, so that an older preparation is not read."""


@dataclass(frozen=True)
class Corpus:
    """The tokenised rows of a run."""

    train: Split
    validation: Split | None
    manifest: Manifest


def prepare(recipe: Recipe, tokenizer: "PreTrainedTokenizerBase", folder: Path) -> Corpus:
    """The splits of a recipe, tokenised into `folder/data` unless they are there; rows left out go to
    `folder/quarantine.jsonl`.

    Every rank calls this; rank 0 works and every rank raises what it raises: DataError for the rows, RecipeError for
    keys that do not fit the tokenizer, RunError where nothing can be written.
    """
    encoder = Encoder(recipe, tokenizer)
    on_rank_zero(lambda: _prepare_unless_there(recipe, encoder, folder))
    return _open(folder / "data")


def count(recipe: Recipe) -> Manifest:
    """How many rows there are, every row read and checked; knows no tokenizer. DataError holds what is wrong."""
    check_fields(recipe.data)
    findings = Findings()
    train = sum(_count(key, source, findings) for key, source in train_sources(recipe.data))
    validation = sum(_count(key, source, findings) for key, source in validation_sources(recipe.data))
    findings.raise_if_any()
    if isinstance(recipe.data.validation, HeldOut):
        validation = held_out_size(train, recipe.data.validation.fraction)
        train -= validation
    return Manifest(train_rows=train, validation_rows=validation)


def _count(key: str, source: Source, findings: Findings) -> int:
    rows = 0
    for seen, example in enumerate(examples(key, source), start=1):
        if isinstance(example, Example):
            rows += 1
        else:
            findings.add(source.path, example)
        if findings.enough(source.path, seen):
            break
    return rows


def _prepare_unless_there(recipe: Recipe, encoder: Encoder, folder: Path) -> None:
    check_fields(recipe.data)
    key = _key(recipe, encoder)
    place = folder / "data"
    if (place / "key").is_file() and (place / "key").read_text(encoding="utf-8") == key:
        return
    unfinished = folder / "data.unfinished"
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _write(recipe, encoder, unfinished)
        (unfinished / "key").write_text(key, encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        unfinished.rename(place)
        _show_quarantine(place / "quarantine.jsonl", folder)
    except OSError as error:
        raise RunError(f"the tokenised rows cannot be written to {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _key(recipe: Recipe, encoder: Encoder) -> str:
    """A hash of all that the tokens depend on."""
    sources = (*train_sources(recipe.data), *validation_sources(recipe.data))
    findings = Findings()
    files = []
    for _, source in sources:
        try:
            files.append(identity(source))
        except DataError as error:
            for problem in error.problems:
                findings.add(source.path, problem)
    findings.raise_if_any()
    settings = recipe.data.model_dump(mode="json", exclude={"packing", "shuffle"})
    parts = [FORMAT, settings, recipe.train.seed, files, encoder.identity]
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _write(recipe: Recipe, encoder: Encoder, folder: Path) -> None:
    """All arrays, the chosen rows, the manifest and the rows left out."""
    held = recipe.data.validation if isinstance(recipe.data.validation, HeldOut) else None
    with Tokeniser(recipe, encoder, folder) as tokeniser:
        train = tokeniser.add("train", train_sources(recipe.data))
        validation = tokeniser.add("validation", named) if (named := validation_sources(recipe.data)) else None
        tokeniser.raise_if_wrong()
    lengths, targets = np.array(train.lengths), np.array(train.targets)
    chosen = held_out(train.digests, held.fraction) if held else np.zeros(len(lengths), dtype=np.bool_)
    np.save(folder / "train.rows.npy", np.flatnonzero(~chosen))
    if held:
        np.save(folder / "validation.rows.npy", np.flatnonzero(chosen))
    elif validation is not None:
        np.save(folder / "validation.rows.npy", np.arange(len(validation.lengths)))
    manifest = Manifest(
        train_rows=int(np.count_nonzero(~chosen)),
        validation_rows=len(validation.lengths) if validation else int(np.count_nonzero(chosen)),
        train_tokens=int(lengths[~chosen].sum()),
        train_targets=int(targets[~chosen].sum()),
        longest=int(lengths[~chosen].max()),
        cut=tokeniser.cut,
        dropped=tokeniser.dropped,
    )
    (folder / "manifest.json").write_text(json.dumps(manifest.to_json()), encoding="utf-8")


def _show_quarantine(written: Path, folder: Path) -> None:
    """The rows left out stand in the run folder; no file where there are none."""
    if written.stat().st_size:
        written.replace(folder / written.name)
    else:
        written.unlink()
        (folder / written.name).unlink(missing_ok=True)


def _open(place: Path) -> Corpus:
    manifest = Manifest(**json.loads((place / "manifest.json").read_text(encoding="utf-8")))
    train = Split.open(place, "train", np.load(place / "train.rows.npy"))
    rows = place / "validation.rows.npy"
    if not rows.is_file():
        return Corpus(train, None, manifest)
    store = "validation" if (place / "validation.tokens.npy").is_file() else "train"
    return Corpus(train, Split.open(place, store, np.load(rows)), manifest)
