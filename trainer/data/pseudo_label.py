"""Labels unlabelled rows with a finished run: its greedy answers, and how sure it is of each.

`pseudo.jsonl` in the run folder holds every answer, so that they are made once and can be looked at. The rows whose
answer is sure enough stand in `pseudo.0.jsonl`, `pseudo.1.jsonl`, ..., one file for each source, and train like others.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config.data import PseudoLabel, Source
from trainer.config.load import load
from trainer.config.recipe import Recipe
from trainer.data.answers import Answer, answer
from trainer.data.clean import Cleaner
from trainer.data.example import Example
from trainer.data.findings import Findings
from trainer.data.formats import parse
from trainer.data.leakage import asked
from trainer.data.result import result_of
from trainer.data.row import LeftOut, Row
from trainer.data.sources import identity, read
from trainer.errors import Problem
from trainer.plan.files import write_text

ANSWERS = "pseudo.jsonl"
COLUMN = "pseudo_label"
"""The column that marks a row which a run labelled: how sure it was."""
_KEY = "pseudo.key"
_FIELDS = {"completion": "completion", "instruction": "output"}
"""The field that holds the answer, where the format has one."""


@dataclass(frozen=True)
class Labelled:
    """The rows of a recipe that a run labelled."""

    sources: tuple[tuple[str, Source], ...]
    """Those that train, as sources with their keys."""
    left_out: tuple[LeftOut, ...]


def check(recipe: Recipe) -> None:
    """RecipeError where `pseudo_label.run` is not the folder of a finished run."""
    if recipe.data.pseudo_label is not None:
        _result(recipe.data.pseudo_label)


def label(recipe: Recipe, folder: Path) -> Labelled:
    """The rows of `data.pseudo_label`, answered in `folder` unless they are; none where the recipe names none.

    RecipeError where the run is not finished or cannot answer such rows, DataError where rows are wrong.
    """
    settings = recipe.data.pseudo_label
    if settings is None:
        return Labelled((), ())
    findings = Findings(recipe.data.max_bad_rows)
    rows = list(_rows(settings, findings))
    findings.raise_if_any()
    wanted, place = _key(settings), folder / _KEY
    if not place.is_file() or place.read_text(encoding="utf-8") != wanted:
        place.unlink(missing_ok=True)
        _answer(settings, rows, folder)
        write_text(place, wanted)
    with (folder / ANSWERS).open(encoding="utf-8") as file:
        answers = [Answer(*(json.loads(line)[name] for name in ("answer", "confidence", "why"))) for line in file]
    wrong = [LeftOut("wrong", row.source, row.line, row.message) for row in findings.left_out]
    sources, unsure = _shared_out(settings, rows, answers, folder)
    return Labelled(tuple(sources), (*wrong, *unsure))


@dataclass(frozen=True)
class _Unlabelled:
    """One row without an answer."""

    source: int
    """The number of its source."""
    row: Row
    example: Example


def _rows(settings: PseudoLabel, findings: Findings) -> Iterator[_Unlabelled]:
    """All sound rows; the others go to the findings."""
    for number, source in enumerate(settings.rows):
        key = f"data.pseudo_label.rows.{number}"
        for seen, row in enumerate(read(source), start=1):
            if isinstance(row, Problem):
                findings.add(key, row)
            elif isinstance(example := parse(row, source, key, answered=False), Problem):
                findings.add(key, row.bad(example.message))
            else:
                yield _Unlabelled(number, row, example)
            if findings.enough(key, seen):
                break


def _answer(settings: PseudoLabel, rows: list[_Unlabelled], folder: Path) -> None:
    """Writes the answer to each row."""
    own = load(Path(settings.run) / "recipe.yaml")
    mend = Cleaner(own.data.clean).mend
    examples = [unlabelled.example.with_text(mend) for unlabelled in rows]
    lines = [
        {"source": example.source, "line": example.line, "prompt": " ".join(asked(example)), "answer": given.text}
        | {"confidence": given.confidence, "why": given.why}
        for example, given in zip(examples, answer(own, _result(settings), examples, settings), strict=True)
    ]
    write_text(folder / ANSWERS, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _shared_out(
    settings: PseudoLabel, rows: list[_Unlabelled], answers: list[Answer], folder: Path
) -> tuple[list[tuple[str, Source]], list[LeftOut]]:
    """The rows whose answers are sure enough, written for `read`, and the others with the reason."""
    left_out: list[LeftOut] = []
    taken: list[list[Mapping[str, Any]]] = [[] for _ in settings.rows]
    for unlabelled, given in zip(rows, answers, strict=True):
        why = given.why
        if not why and given.confidence < settings.confidence:
            least = f"data.pseudo_label.confidence: {settings.confidence}"
            why = f"the run is {given.confidence:.3f} sure of its answer, less than {least}"
        if why:
            left_out.append(LeftOut("unsure", unlabelled.row.source, unlabelled.row.line, why))
        else:
            taken[unlabelled.source].append(_answered(unlabelled, settings.rows[unlabelled.source], given))
    sources = []
    for number, source in enumerate(settings.rows):
        file = folder / f"pseudo.{number}.jsonl"
        text = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in taken[number])
        # A file that stays as it was is not tokenised again.
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            write_text(file, text)
        if text:
            fields = {} if source.format == "chat" else source.fields
            update = {"path": str(file), "fields": fields, "split": None, "config": None, "revision": None}
            sources.append((f"data.pseudo_label.rows.{number}", source.model_copy(update=update | {"encoding": None})))
    return sources, left_out


def _answered(unlabelled: _Unlabelled, source: Source, given: Answer) -> Mapping[str, Any]:
    """The row with its answer and with how sure it is; a conversation by the usual names."""
    row, example = unlabelled.row, unlabelled.example
    marked = {**row.values, COLUMN: round(given.confidence, 6)}
    if source.format != "chat":
        field = _FIELDS[source.format]
        return {**marked, source.fields.get(field, field): given.text}
    marked.pop("conversations", None)
    messages = [*example.messages, {"role": "assistant", "content": given.text}]
    return {**marked, "messages": messages, "tools": list(example.tools)}


def _result(settings: PseudoLabel) -> Path:
    return result_of(settings.run, "data.pseudo_label.run")


def _key(settings: PseudoLabel) -> str:
    """A hash of all that the answers depend on."""
    weights = [
        [file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in sorted(_result(settings).iterdir())
    ]
    rows = [[source.model_dump(mode="json"), identity(source)] for source in settings.rows]
    parts = json.dumps([str(Path(settings.run).resolve()), weights, rows, settings.max_tokens])
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()
