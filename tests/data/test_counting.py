import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from data import rows

from trainer.data.counting import count
from trainer.errors import DataError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return rows.write(tmp_path / "a.jsonl", rows.completions(40))


@pytest.mark.parametrize(
    "data", [{}, {"validation": None}, {"test": {"fraction": 0.3}}, {"validation": {"fraction": 0.9}}]
)
def test_counting_agrees_with_preparing(file: Path, tmp_path: Path, data: dict[str, object]) -> None:
    recipe = rows.recipe(file, **data)
    counted, prepared = count(recipe), rows.prepare(recipe, tmp_path).manifest
    assert (counted.train_rows, counted.validation_rows, counted.test_rows) == (
        prepared.train_rows,
        prepared.validation_rows,
        prepared.test_rows,
    )
    assert counted.train_tokens is None


def test_counting_imports_no_tokenizer() -> None:
    heavy = "{'torch', 'transformers', 'tokenizers', 'jinja2', 'datasets', 'pyarrow', 'sklearn', 'scipy'}"
    code = f"import sys, trainer.data.counting; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_sources_of_their_own_are_counted(file: Path, tmp_path: Path) -> None:
    named = {}
    for name, number in (("validation", 3), ("test", 5)):
        path = rows.write(tmp_path / f"{name}.jsonl", rows.completions(number))
        named[name] = [{"path": str(path), "format": "completion"}]
    counted = count(rows.recipe(file, **named))
    assert (counted.train_rows, counted.validation_rows, counted.test_rows) == (40, 3, 5)


def test_a_stream_is_not_counted(file: Path) -> None:
    counted = count(rows.recipe(file, streaming=True, validation=None))
    assert (counted.train_rows, counted.validation_rows) == (None, 0)


def test_weights_make_an_epoch_longer_or_shorter(file: Path, tmp_path: Path) -> None:
    other = rows.write(tmp_path / "b.jsonl", rows.completions(20))
    recipe = rows.recipe(file, other, validation={"fraction": 0.1})
    twice, half = (
        source.model_copy(update={"weight": weight})
        for source, weight in zip(recipe.data.train, (2.0, 0.5), strict=True)
    )
    weighted = recipe.model_copy(update={"data": recipe.data.model_copy(update={"train": (twice, half)})})
    assert count(recipe).epoch_rows is None
    assert count(weighted).epoch_rows == round(0.9 * (2 * 40 + 0.5 * 20))
    prepared = rows.prepare(weighted, tmp_path)
    of_source = prepared.facts("train").source.tolist()
    assert prepared.manifest.epoch_rows == round(2 * of_source.count(0) + 0.5 * of_source.count(1))


def test_bad_rows_among_the_first_thousand_are_told_at_once(tmp_path: Path) -> None:
    many = rows.completions(1500)
    for line in (3, 1000, 1400):
        many[line - 1] = {f"prompt {line}": "x"}
    file = rows.write(tmp_path / "a.jsonl", many)
    with pytest.raises(DataError) as raised:
        count(rows.recipe(file))
    assert [problem.where for problem in raised.value.problems] == [f"{file}:3", f"{file}:1000"]


def test_bad_rows_that_may_be_are_not_counted(tmp_path: Path) -> None:
    file = rows.write(tmp_path / "a.jsonl", [*rows.completions(9), {"prompt": "x"}])
    assert count(rows.recipe(file, validation=None, max_bad_rows=1)).train_rows == 9


def test_all_files_that_cannot_be_read_are_told_at_once(file: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "b.jsonl.gz"
    damaged.write_bytes(gzip.compress(json.dumps({"prompt": "a", "completion": "b"}).encode() * 9)[:-9])
    with pytest.raises(DataError) as raised:
        count(rows.recipe(file, tmp_path / "none.jsonl", damaged))
    assert [problem.where for problem in raised.value.problems] == [str(tmp_path / "none.jsonl"), str(damaged)]
