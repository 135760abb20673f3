import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data import rows
from distributed.pair import Pair

from trainer.data import corpus
from trainer.data.corpus import Split
from trainer.errors import DataError, RunError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return rows.write(tmp_path / "a.jsonl", rows.completions(40))


def contents(split: Split | None) -> list[list[int]]:
    assert split is not None
    return [split.tokens(row).tolist() for row in range(len(split))]


def quarantine(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "quarantine.jsonl").read_text().splitlines()]


def refused(recipe: Any, folder: Path) -> str:
    with pytest.raises(DataError) as raised:
        rows.prepare(recipe, folder)
    assert not (folder / "data.unfinished").exists()
    return str(raised.value)


def test_a_corpus_holds_tokens_masks_lengths_and_targets(file: Path, tmp_path: Path) -> None:
    prepared = rows.prepare(rows.recipe(file), tmp_path)
    train, manifest = prepared.train, prepared.manifest
    assert (len(train), manifest.train_rows, manifest.validation_rows) == (38, 38, 2)
    for row in range(len(train)):
        assert train.tokens(row).dtype == np.int32 and train.learned(row).dtype == np.bool_
        assert train.lengths[row] == len(train.tokens(row)) == len(train.learned(row))
        assert train.targets[row] == train.learned(row)[1:].sum() > 0
    assert (manifest.train_tokens, manifest.train_targets) == (train.lengths.sum(), train.targets.sum())
    assert manifest.longest == train.lengths.max()


def test_counting_agrees_with_preparing(file: Path, tmp_path: Path) -> None:
    counted, prepared = corpus.count(rows.recipe(file)), rows.prepare(rows.recipe(file), tmp_path).manifest
    assert (counted.train_rows, counted.validation_rows) == (prepared.train_rows, prepared.validation_rows)
    assert counted.train_tokens is None


def test_counting_imports_neither_torch_nor_transformers() -> None:
    heavy = "{'torch', 'transformers', 'tokenizers'}"
    code = f"import sys, trainer.data.corpus, trainer.data.tokenizer; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_second_start_reads_what_is_there(file: Path, tmp_path: Path) -> None:
    first = rows.prepare(rows.recipe(file), tmp_path)
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()}
    second = rows.prepare(rows.recipe(file, packing=False, shuffle=False), tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()} == times
    assert contents(second.train) == contents(first.train) and second.manifest == first.manifest


def test_a_changed_file_is_tokenised_again(file: Path, tmp_path: Path) -> None:
    rows.prepare(rows.recipe(file), tmp_path)
    rows.write(file, rows.completions(30))
    assert rows.prepare(rows.recipe(file), tmp_path).manifest.train_rows == 28


def test_a_file_of_the_same_size_is_told_by_its_time(file: Path, tmp_path: Path) -> None:
    first = rows.prepare(rows.recipe(file), tmp_path)
    file.write_text(file.read_text().replace("plus", "more"))
    os.utime(file, ns=(1, 1))
    assert contents(rows.prepare(rows.recipe(file), tmp_path).train) != contents(first.train)


def test_another_seed_holds_other_rows_out(file: Path, tmp_path: Path) -> None:
    one = rows.prepare(rows.recipe(file, seed=0), tmp_path / "one")
    other = rows.prepare(rows.recipe(file, seed=1), tmp_path / "other")
    assert contents(one.validation) != contents(other.validation)


def test_the_held_out_rows_do_not_depend_on_the_order_of_rows(file: Path, tmp_path: Path) -> None:
    recipe = rows.recipe(file, validation={"fraction": 0.25})
    first = rows.prepare(recipe, tmp_path)
    rows.write(file, rows.completions(40)[::-1])
    second = rows.prepare(recipe, tmp_path)
    assert len(contents(first.validation)) == 10
    assert sorted(contents(first.validation)) == sorted(contents(second.validation))
    assert sorted(contents(first.train)) == sorted(contents(second.train))


@pytest.mark.parametrize(("count", "fraction", "held"), [(2, 0.01, 1), (2, 0.99, 1), (10, 0.25, 2), (100, 0.05, 5)])
def test_at_least_one_row_is_held_out_and_one_stays(tmp_path: Path, count: int, fraction: float, held: int) -> None:
    file = rows.write(tmp_path / "a.jsonl", rows.completions(count))
    manifest = rows.prepare(rows.recipe(file, validation={"fraction": fraction}), tmp_path).manifest
    assert (manifest.train_rows, manifest.validation_rows) == (count - held, held)


def test_one_row_cannot_be_shared_out(tmp_path: Path) -> None:
    file = rows.write(tmp_path / "a.jsonl", rows.completions(1))
    assert "data.validation: one row cannot be shared out" in refused(rows.recipe(file), tmp_path)
    assert rows.prepare(rows.recipe(file, validation=None), tmp_path).validation is None


def test_validation_sources_of_their_own_are_tokenised_like_training_rows(file: Path, tmp_path: Path) -> None:
    other = rows.write(tmp_path / "b.jsonl", rows.completions(3))
    recipe = rows.recipe(file, validation=[{"path": str(other), "format": "completion"}])
    prepared = rows.prepare(recipe, tmp_path)
    assert contents(prepared.validation) == contents(prepared.train)[:3]
    assert prepared.manifest.validation_rows == 3


# Digits are tokens of their own, whatever the tokenizer learns.
LONG = [*({"prompt": "a", "completion": "123"} for _ in range(4)), {"prompt": "a", "completion": "4" * 99}]


def test_cut_keeps_the_beginning(tmp_path: Path) -> None:
    file = rows.write(tmp_path / "a.jsonl", LONG)
    whole = rows.prepare(rows.recipe(file, validation=None), tmp_path)
    cut = rows.prepare(rows.recipe(file, validation=None, max_length=8), tmp_path)
    assert cut.manifest.cut == 1 and cut.manifest.longest == 8
    assert contents(cut.train) == [tokens[:8] for tokens in contents(whole.train)]


def test_drop_leaves_long_rows_out_and_says_so(tmp_path: Path) -> None:
    file = rows.write(tmp_path / "a.jsonl", LONG)
    prepared = rows.prepare(rows.recipe(file, validation=None, max_length=8, too_long="drop"), tmp_path)
    assert (len(prepared.train), prepared.manifest.dropped) == (4, 1)
    [line] = quarantine(tmp_path)
    assert (line["source"], line["line"]) == (str(file), 5) and "more than data.max_length: 8" in line["why"]


def test_error_names_the_long_rows(tmp_path: Path) -> None:
    file = rows.write(tmp_path / "a.jsonl", LONG)
    said = refused(rows.recipe(file, max_length=8, too_long="error"), tmp_path)
    assert f"{file}:5: has" in said and "more than data.max_length: 8; raise it" in said


def test_a_row_that_is_cut_before_its_answer_is_left_out(tmp_path: Path) -> None:
    file = rows.write(tmp_path / "a.jsonl", [{"prompt": "7" * 60, "completion": "c"}, *rows.completions(3)])
    prepared = rows.prepare(rows.recipe(file, validation=None, max_length=16), tmp_path)
    assert (len(prepared.train), prepared.manifest.dropped, prepared.manifest.cut) == (3, 1, 0)
    assert "data.max_length: 16 cuts it off" in quarantine(tmp_path)[0]["why"]


def test_no_quarantine_file_stays_from_an_earlier_preparation(tmp_path: Path) -> None:
    file = rows.write(tmp_path / "a.jsonl", LONG)
    rows.prepare(rows.recipe(file, validation=None, max_length=8, too_long="drop"), tmp_path)
    rows.prepare(rows.recipe(file, validation=None), tmp_path)
    assert not (tmp_path / "quarantine.jsonl").exists()


def test_nothing_left_says_why_with_the_lengths(file: Path, tmp_path: Path) -> None:
    dropped = refused(rows.recipe(file, max_length=2, too_long="drop"), tmp_path)
    assert "data.max_length: all rows are longer than 2 tokens (" in dropped and "data.too_long: cut" in dropped
    masked = refused(rows.recipe(file, max_length=2), tmp_path)
    assert "2 tokens leave nothing to learn in any row of data.train: what is learned begins after" in masked
    empty = rows.write(tmp_path / "b.jsonl", [{"text": ""}] * 3)
    assert "none of its 3 rows holds anything to learn" in refused(rows.recipe(empty, format="text"), tmp_path)


def test_rows_are_tokenised_in_chunks_to_the_same_result(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rows.prepare(rows.recipe(file), tmp_path / "whole")
    monkeypatch.setattr("trainer.data.tokenise.CHUNK_ROWS", 7)
    chunked = rows.prepare(rows.recipe(file), tmp_path / "chunked")
    assert contents(chunked.train) == contents(whole.train)


def test_a_folder_that_cannot_be_written_ends_the_run_with_its_name(file: Path, tmp_path: Path) -> None:
    recipe = rows.recipe(file)
    words = rows.tokenizer.load(recipe, tmp_path)
    (tmp_path / "plain").touch()
    with pytest.raises(RunError, match="cannot be written to"):
        corpus.prepare(recipe, words, tmp_path / "plain")


def test_a_split_in_memory_is_one_too() -> None:
    split = Split.of([([5, 6, 7], [True, False, True]), ([8], [True])])  # type: ignore[list-item]
    assert contents(split) == [[5, 6, 7], [8]]
    assert (split.lengths.tolist(), split.targets.tolist()) == ([3, 1], [1, 0])


def test_every_rank_sees_the_rows_that_rank_zero_prepared(pair: Pair, file: Path, tmp_path: Path) -> None:
    one, other = pair.run(rows.prepare_on_this_rank, str(file), str(tmp_path / "run"))
    assert one == other and len(one) == 38


def test_every_rank_raises_what_rank_zero_finds(pair: Pair, tmp_path: Path) -> None:
    file = rows.write(tmp_path / "a.jsonl", [*rows.completions(2), {"prompt": "x"}])
    one, other = pair.run(rows.prepare_on_this_rank, str(file), str(tmp_path / "run"))
    assert one == other
    assert one[0] == "DataError" and "a.jsonl:3: has no completion" in one[1]
