import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data import rows
from distributed.pair import Pair

from trainer import ranks
from trainer.data import corpus
from trainer.data.corpus import Split
from trainer.errors import DataError, RunError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return rows.write(tmp_path / "a.jsonl", rows.completions(40))


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs that share tokens keep them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "shardtune" / "data"


def contents(split: Split | None) -> list[list[int]]:
    assert split is not None
    return [split.tokens(row).tolist() for row in range(len(split))]


def quarantine(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "quarantine.jsonl").read_text().splitlines()]


def written(folder: Path) -> dict[str, int]:
    """When each of the files was written."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def refused(recipe: Any, folder: Path) -> str:
    with pytest.raises(DataError) as raised:
        rows.prepare(recipe, folder)
    assert not (folder / "data" / "chosen").exists()
    assert list(folder.glob("data/.*")) == []
    return str(raised.value)


def test_a_corpus_holds_tokens_masks_lengths_and_targets(file: Path, tmp_path: Path) -> None:
    prepared = rows.prepare(rows.recipe(file), tmp_path)
    train, manifest = prepared.train, prepared.manifest
    assert train is not None
    assert (len(train), manifest.train_rows, manifest.validation_rows) == (38, 38, 2)
    for row in range(len(train)):
        assert train.tokens(row).dtype == np.int32 and train.learned(row).dtype == np.bool_
        assert train.lengths[row] == len(train.tokens(row)) == len(train.learned(row))
        assert train.targets[row] == train.learned(row)[1:].sum() > 0
    assert (manifest.train_tokens, manifest.train_targets) == (train.lengths.sum(), train.targets.sum())
    assert manifest.longest == train.lengths.max()


def test_the_facts_of_a_split_are_those_of_its_rows(file: Path, tmp_path: Path) -> None:
    more = rows.write(tmp_path / "b.jsonl", rows.completions(60)[40:])
    prepared = rows.prepare(rows.recipe(file, more, validation={"fraction": 0.25}), tmp_path)
    for name, split in (("train", prepared.train), ("validation", prepared.validation)):
        facts = prepared.facts(name)
        assert split is not None and len(facts) == len(split)
        assert facts.length.tolist() == split.lengths.tolist()
        assert facts.source.tolist() == split.source.tolist()
        assert prepared.row_of(name).tolist() == list(range(len(split)))
        wheres = {f"{more if source else file}:{line}" for source, line in zip(facts.source, facts.line, strict=True)}
        assert wheres == {facts.where(row) for row in range(len(facts))}
        assert len(wheres) == len(facts)


def test_importing_it_needs_neither_torch_nor_transformers() -> None:
    heavy = "{'torch', 'transformers', 'tokenizers', 'datasets', 'pyarrow', 'sklearn', 'scipy'}"
    code = f"import sys, trainer.data.corpus, trainer.data.tokenizer; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_second_start_reads_what_is_there(file: Path, tmp_path: Path) -> None:
    first = rows.prepare(rows.recipe(file), tmp_path)
    before = written(tmp_path / "data")
    second = rows.prepare(rows.recipe(file, packing=False, shuffle=False, workers=1), tmp_path)
    assert written(tmp_path / "data") == before
    assert contents(second.train) == contents(first.train) and second.manifest == first.manifest


def test_a_second_start_takes_well_under_a_second(file: Path, tmp_path: Path) -> None:
    recipe = rows.recipe(file)
    words = rows.tokenizer.load(recipe, tmp_path)
    corpus.prepare(recipe, words, tmp_path)
    began = time.process_time()
    corpus.prepare(recipe, words, tmp_path)
    assert time.process_time() - began < 0.5


def test_another_run_over_the_same_rows_reads_the_cache(file: Path, tmp_path: Path, shared: Path) -> None:
    recipe = rows.recipe(file, cache=True)
    words = rows.tokenizer.load(recipe, tmp_path)
    first = corpus.prepare(recipe, words, tmp_path / "one")
    before = written(shared)
    others = recipe.data.model_copy(update={"shuffle": False, "workers": 2, "max_bad_rows": 3})
    second = corpus.prepare(recipe.model_copy(update={"data": others}), words, tmp_path / "two")
    assert written(shared) == before != {}
    assert contents(second.train) == contents(first.train)
    assert not list((tmp_path / "two" / "data").glob("*/tokens.npy"))


@pytest.mark.parametrize("changed", [{"max_length": 16}, {"learn": "all"}, {"clean": {"white_space": True}}])
def test_settings_that_change_tokens_are_another_entry(
    file: Path, tmp_path: Path, shared: Path, changed: dict[str, Any]
) -> None:
    recipe = rows.recipe(file, cache=True)
    words = rows.tokenizer.load(recipe, tmp_path)
    corpus.prepare(recipe, words, tmp_path / "one")
    corpus.prepare(rows.recipe(file, cache=True, **changed), words, tmp_path / "two")
    assert len(list(shared.iterdir())) == 2


def test_a_file_is_told_by_its_content(file: Path, tmp_path: Path, shared: Path) -> None:
    recipe = rows.recipe(file, cache=True)
    words = rows.tokenizer.load(recipe, tmp_path)
    first = corpus.prepare(recipe, words, tmp_path)
    os.utime(file, ns=(1, 1))
    assert contents(corpus.prepare(recipe, words, tmp_path).train) == contents(first.train)
    assert len(list(shared.iterdir())) == 1
    file.write_text(file.read_text().replace("plus", "more"))
    corpus.prepare(recipe, words, tmp_path)
    assert len(list(shared.iterdir())) == 2


def test_an_entry_that_went_is_made_again(file: Path, tmp_path: Path, shared: Path) -> None:
    recipe = rows.recipe(file, cache=True)
    first = rows.prepare(recipe, tmp_path)
    before = contents(first.train)
    [entry] = shared.iterdir()
    for path in entry.iterdir():
        path.unlink()
    entry.rmdir()
    assert contents(rows.prepare(recipe, tmp_path).train) == before


def test_the_run_folder_keeps_the_tokens_where_nodes_share_no_home(
    file: Path, tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "local_world_size", lambda: 4)
    rows.prepare(rows.recipe(file, cache=True), tmp_path)
    assert not shared.exists() and list((tmp_path / "data").glob("*/tokens.npy"))


def test_a_changed_file_is_tokenised_again_and_takes_the_place_of_the_old_tokens(file: Path, tmp_path: Path) -> None:
    rows.prepare(rows.recipe(file), tmp_path)
    rows.write(file, rows.completions(30))
    assert rows.prepare(rows.recipe(file), tmp_path).manifest.train_rows == 28
    assert len(list((tmp_path / "data").glob("*/tokens.npy"))) == 1


def test_another_seed_holds_other_rows_out_of_the_same_tokens(file: Path, tmp_path: Path, shared: Path) -> None:
    words = rows.tokenizer.load(rows.recipe(file), tmp_path)
    one, other = (
        corpus.prepare(rows.recipe(file, seed=seed, cache=True), words, tmp_path / str(seed)) for seed in (0, 1)
    )
    assert contents(one.validation) != contents(other.validation)
    assert len(list(shared.iterdir())) == 1


def test_the_held_out_rows_do_not_depend_on_the_order_of_rows(file: Path, tmp_path: Path) -> None:
    recipe = rows.recipe(file, validation={"fraction": 0.25}, test={"fraction": 0.1})
    first = rows.prepare(recipe, tmp_path)
    kept = {name: sorted(contents(getattr(first, name))) for name in ("train", "validation", "test")}
    rows.write(file, rows.completions(40)[::-1])
    second = rows.prepare(recipe, tmp_path)
    assert {name: len(some) for name, some in kept.items()} == {"train": 26, "validation": 10, "test": 4}
    assert {name: sorted(contents(getattr(second, name))) for name in kept} == kept


def test_splits_of_their_own_are_tokenised_like_training_rows(file: Path, tmp_path: Path) -> None:
    some = rows.write(tmp_path / "b.jsonl", rows.completions(3))
    others = rows.write(tmp_path / "c.jsonl", rows.completions(5))
    sources = {"validation": some, "test": others}
    recipe = rows.recipe(
        file, **{name: [{"path": str(path), "format": "completion"}] for name, path in sources.items()}
    )
    prepared = rows.prepare(recipe, tmp_path)
    assert contents(prepared.validation) == contents(prepared.train)[:3]
    assert contents(prepared.test) == contents(prepared.train)[:5]
    manifest = prepared.manifest
    assert (manifest.train_rows, manifest.validation_rows, manifest.test_rows) == (40, 3, 5)


def test_one_row_cannot_be_shared_out(tmp_path: Path) -> None:
    file = rows.write(tmp_path / "a.jsonl", rows.completions(1))
    assert "data.validation: one row cannot be shared out" in refused(rows.recipe(file), tmp_path)
    assert rows.prepare(rows.recipe(file, validation=None), tmp_path).validation is None


# Digits are tokens of their own, whatever the tokenizer learns.
LONG = [*({"prompt": "a", "completion": "123"} for _ in range(4)), {"prompt": "a", "completion": "4" * 99}]


def test_cut_keeps_the_beginning(tmp_path: Path) -> None:
    file = rows.write(tmp_path / "a.jsonl", LONG)
    whole = contents(rows.prepare(rows.recipe(file, validation=None), tmp_path).train)
    cut = rows.prepare(rows.recipe(file, validation=None, max_length=8), tmp_path)
    assert cut.manifest.cut == 1 and cut.manifest.longest == 8
    assert contents(cut.train) == [tokens[:8] for tokens in whole]
    assert cut.facts("train").length.tolist() == [len(tokens) for tokens in whole]


def test_drop_leaves_long_rows_out_and_says_so(tmp_path: Path) -> None:
    file = rows.write(tmp_path / "a.jsonl", LONG)
    prepared = rows.prepare(rows.recipe(file, validation=None, max_length=8, too_long="drop"), tmp_path)
    assert len(contents(prepared.train)) == 4 and prepared.manifest.left_out == {"too long": 1}
    [line] = quarantine(tmp_path)
    assert (line["source"], line["line"]) == (str(file), 5) and "more than data.max_length: 8" in line["why"]


def test_error_names_the_long_rows(tmp_path: Path) -> None:
    file = rows.write(tmp_path / "a.jsonl", LONG)
    said = refused(rows.recipe(file, max_length=8, too_long="error"), tmp_path)
    assert f"{file}:5: has" in said and "more than data.max_length: 8; raise it" in said


def test_a_long_text_becomes_several_rows_and_stays_on_one_side(tmp_path: Path) -> None:
    texts = [{"text": str(number) * 50} for number in range(8)] + [{"text": "short"}]
    file = rows.write(tmp_path / "a.jsonl", texts)
    whole = contents(rows.prepare(rows.recipe(file, format="text", validation=None), tmp_path).train)
    recipe = rows.recipe(file, format="text", validation={"fraction": 0.3}, max_length=16, too_long="split")
    prepared = rows.prepare(recipe, tmp_path)
    assert prepared.manifest.divided == 8 and prepared.manifest.train_rows == len(contents(prepared.train))
    joined: dict[str, list[int]] = {}
    for name, split in (("train", prepared.train), ("validation", prepared.validation)):
        facts = prepared.facts(name)
        for part, row in zip(contents(split), prepared.row_of(name), strict=True):
            assert len(part) <= 16
            joined.setdefault(facts.where(int(row)), []).extend(part)
    assert sorted(joined.values()) == sorted(whole)
    assert len(prepared.facts("train")) + len(prepared.facts("validation")) == 9


def test_a_row_that_is_cut_before_its_answer_is_left_out(tmp_path: Path) -> None:
    file = rows.write(tmp_path / "a.jsonl", [{"prompt": "7" * 60, "completion": "c"}, *rows.completions(3)])
    prepared = rows.prepare(rows.recipe(file, validation=None, max_length=16), tmp_path)
    manifest = prepared.manifest
    assert (manifest.train_rows, manifest.cut, manifest.left_out) == (3, 0, {"learned part cut off": 1})
    assert "data.max_length: 16 cuts it off" in quarantine(tmp_path)[0]["why"]


def test_no_quarantine_file_stays_from_an_earlier_preparation(tmp_path: Path) -> None:
    file = rows.write(tmp_path / "a.jsonl", LONG)
    rows.prepare(rows.recipe(file, validation=None, max_length=8, too_long="drop"), tmp_path)
    rows.prepare(rows.recipe(file, validation=None), tmp_path)
    assert not (tmp_path / "quarantine.jsonl").exists()


def test_nothing_left_says_why(file: Path, tmp_path: Path) -> None:
    dropped = refused(rows.recipe(file, max_length=2, too_long="drop"), tmp_path)
    assert "data.max_length: all rows are longer than 2 tokens (" in dropped and "data.too_long: cut" in dropped
    masked = refused(rows.recipe(file, max_length=2), tmp_path)
    assert "2 tokens leave nothing to learn in any row of data.train: what is learned begins after" in masked
    cleaned = refused(rows.recipe(file, clean={"min_characters": 999}), tmp_path)
    assert "data.clean: leaves out all 40 rows of data.train; ask for less" in cleaned
    empty = rows.write(tmp_path / "b.jsonl", [{"text": ""}] * 3)
    assert "none of its 3 rows holds anything to learn" in refused(rows.recipe(empty, format="text"), tmp_path)


BAD = [*rows.completions(3), {"prompt": "x"}, *rows.completions(3), {"completion": "y"}]


def test_bad_rows_are_left_out_where_they_may_be(tmp_path: Path) -> None:
    file = rows.write(tmp_path / "a.jsonl", BAD)
    prepared = rows.prepare(rows.recipe(file, validation=None, max_bad_rows=2), tmp_path)
    assert len(contents(prepared.train)) == 6 and prepared.manifest.left_out == {"wrong": 2}
    assert [(line["source"], line["line"]) for line in quarantine(tmp_path)] == [(str(file), 4), (str(file), 8)]
    assert "has no completion" in quarantine(tmp_path)[0]["why"]


def test_one_bad_row_too_many_refuses_the_run_with_all_of_them(tmp_path: Path) -> None:
    file = rows.write(tmp_path / "a.jsonl", BAD)
    said = refused(rows.recipe(file, validation=None, max_bad_rows=1), tmp_path)
    assert f"{file}:4: has no completion" in said and f"{file}:8: has no prompt" in said
    assert "data.max_bad_rows: more than 1 rows are wrong" in said


def test_bad_rows_of_all_splits_count_together_also_those_in_the_cache(tmp_path: Path, shared: Path) -> None:
    file, other = (rows.write(tmp_path / name, BAD) for name in ("a.jsonl", "b.jsonl"))
    words = rows.tokenizer.load(rows.recipe(file, validation=None, max_bad_rows=2), tmp_path)
    corpus.prepare(rows.recipe(file, validation=None, max_bad_rows=2, cache=True), words, tmp_path / "one")
    named = {"validation": [{"path": str(other), "format": "completion"}], "cache": True}
    with pytest.raises(DataError, match=r"data\.max_bad_rows: more than 3 rows are wrong") as raised:
        corpus.prepare(rows.recipe(file, max_bad_rows=3, **named), words, tmp_path / "two")
    assert f"{file}:4" in str(raised.value) and f"{other}:8" in str(raised.value)
    prepared = corpus.prepare(rows.recipe(file, max_bad_rows=4, **named), words, tmp_path / "three")
    assert prepared.manifest.left_out == {"wrong": 4}


def test_all_that_is_wrong_is_told_at_once_whatever_the_split(tmp_path: Path) -> None:
    file, other = (rows.write(tmp_path / name, BAD) for name in ("a.jsonl", "b.jsonl"))
    sound = rows.recipe(rows.write(tmp_path / "c.jsonl", rows.completions(9)))
    words = rows.tokenizer.load(sound, tmp_path)
    recipe = rows.recipe(file, validation=[{"path": str(other), "format": "completion"}])
    with pytest.raises(DataError) as raised:
        corpus.prepare(recipe, words, tmp_path)
    assert [problem.where for problem in raised.value.problems] == [
        f"{path}:{line}" for path in (file, other) for line in (4, 8)
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_thousand_rows_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    monkeypatch.setattr("trainer.data.tokenise.CHUNK_ROWS", 70)
    many = rows.completions(3000)
    for line in (900, 990, 1000, 1001, 2900):
        many[line - 1] = {"prompt": "x", f"not {line}": ""}
    file = rows.write(tmp_path / "a.jsonl", many)
    words = rows.tokenizer.load(rows.recipe(rows.write(tmp_path / "b.jsonl", rows.completions(9))), tmp_path)
    with pytest.raises(DataError) as raised:
        corpus.prepare(rows.recipe(file, workers=workers), words, tmp_path)
    assert [problem.where for problem in raised.value.problems] == [f"{file}:{line}" for line in (900, 990, 1000)]


def test_counts_by_reason_hold_all_that_was_left_out(tmp_path: Path) -> None:
    odd = [{"prompt": "p", "completion": "9" * 80}, {"prompt": "x"}, {"prompt": "p", "completion": "q"}]
    file = rows.write(tmp_path / "a.jsonl", [*rows.completions(20), *rows.completions(5), *odd])
    clean = {"duplicates": "exact", "min_characters": 5}
    recipe = rows.recipe(file, max_length=40, too_long="drop", max_bad_rows=1, clean=clean)
    prepared = rows.prepare(recipe, tmp_path)
    assert prepared.manifest.left_out == {"wrong": 1, "cleaned away": 1, "too long": 1, "duplicate": 5}
    assert sorted(line["line"] for line in quarantine(tmp_path)) == list(range(21, 29))
    assert (prepared.manifest.train_rows, prepared.manifest.validation_rows) == (19, 1)


def test_a_folder_that_cannot_be_written_ends_the_run_with_its_name(file: Path, tmp_path: Path) -> None:
    recipe = rows.recipe(file)
    words = rows.tokenizer.load(recipe, tmp_path)
    (tmp_path / "plain").touch()
    with pytest.raises(RunError, match=r"plain: the tokenised rows cannot be written \(Not a directory\)"):
        corpus.prepare(recipe, words, tmp_path / "plain")


def test_a_cache_that_cannot_be_written_names_the_way_out(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "plain"))
    with pytest.raises(RunError, match=r"make room, or set data\.cache: false, which keeps them in the run folder"):
        rows.prepare(rows.recipe(file, cache=True), tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_a_full_disk_leaves_nothing_half_written(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = rows.recipe(file)
    words = rows.tokenizer.load(recipe, tmp_path)
    opened: Callable[..., Any] = Path.open

    def full(path: Path, *arguments: Any, **named: Any) -> Any:
        return opened(Path("/dev/full") if path.name == "tokens.npy" else path, *arguments, **named)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(RunError, match=r"cannot be written \(No space left on device\); make room"):
        corpus.prepare(recipe, words, tmp_path)
    assert list((tmp_path / "data").iterdir()) == []


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
