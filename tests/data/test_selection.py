import json
from pathlib import Path
from typing import Any

import pytest
from data import rows

from trainer.data.corpus import Corpus
from trainer.errors import DataError

SENTENCE = "The quick brown fox jumps over the lazy dog, and number {} of them sleeps in the shade of the old oak tree."


@pytest.fixture
def made() -> list[dict[str, Any]]:
    """Rows that differ, of one label or another."""
    kinds = ("sum", "product", "power")
    return [
        {"prompt": f"What is the {kinds[n % 3]} of {n} and {n + 7}, in words?", "completion": f" {n}.", "kind": n % 3}
        for n in range(30)
    ]


def prepare(folder: Path, made: list[dict[str, Any]], **data: Any) -> Corpus:
    return rows.prepare(rows.recipe(rows.write(folder / "a.jsonl", made), **{"validation": None, **data}), folder)


def lines(prepared: Corpus, split: str = "train") -> list[int]:
    return [int(line) for line in prepared.facts(split).line]


def quarantine(folder: Path) -> dict[int, str]:
    return {
        line["line"]: line["why"] for line in map(json.loads, (folder / "quarantine.jsonl").read_text().splitlines())
    }


def test_duplicates_are_kept_where_nobody_asks(tmp_path: Path, made: list[dict[str, Any]]) -> None:
    assert len(lines(prepare(tmp_path, made + made[:5]))) == 35


def test_the_first_of_the_rows_that_say_the_same_is_kept(tmp_path: Path, made: list[dict[str, Any]]) -> None:
    prepared = prepare(tmp_path, made + made[:5], clean={"duplicates": "exact"})

    assert lines(prepared) == list(range(1, 31)) and prepared.manifest.left_out == {"duplicate": 5}
    assert quarantine(tmp_path) == {
        31 + number: f"says the same as {tmp_path / 'a.jsonl'}:{number + 1}" for number in range(5)
    }


def test_the_first_of_the_rows_that_say_nearly_the_same_is_kept(tmp_path: Path, made: list[dict[str, Any]]) -> None:
    near = [{"prompt": SENTENCE.format(number), "completion": " Yes."} for number in ("two", "2")]

    prepared = prepare(tmp_path, [*near, *made], clean={"duplicates": "near"})

    assert lines(prepared)[:2] == [1, 3]
    assert quarantine(tmp_path)[2] == f"says nearly the same as {tmp_path / 'a.jsonl'}:1"


def test_rows_of_a_group_stand_on_one_side_and_labels_in_their_shares(
    tmp_path: Path, made: list[dict[str, Any]]
) -> None:
    data = {"validation": {"fraction": 0.2, "stratify": "kind"}, "test": {"fraction": 0.1}}
    prepared = prepare(tmp_path, made, **data)

    kinds = [made[line - 1]["kind"] for line in lines(prepared, "validation")]
    assert sorted(kinds) == [0, 0, 1, 1, 2, 2]
    sides = [set(lines(prepared, name)) for name in ("train", "validation", "test")]
    assert [len(side) for side in sides] == [21, 6, 3] and len(set.union(*sides)) == 30


def leak(folder: Path, made: list[dict[str, Any]], leakage: str) -> Corpus:
    """Validation holds the first two rows too, and another asks what the third row asks."""
    held = [*made[:2], {**made[2], "completion": " Nobody knows."}, {"prompt": "Else?", "completion": " No."}]
    named = [{"path": str(rows.write(folder / "b.jsonl", held)), "format": "completion"}]
    return prepare(folder, made, validation=named, clean={"leakage": leakage})


def test_leaks_are_told(tmp_path: Path, made: list[dict[str, Any]]) -> None:
    prepared = leak(tmp_path, made, "report")

    assert len(lines(prepared)) == 30
    [note] = prepared.notes
    assert note.startswith("3 training rows stand in validation too (2 same, 1 same prompt), such as ")
    told = json.loads((tmp_path / "leakage.json").read_text())
    assert [(entry["where"], entry["other"], entry["kind"]) for entry in told] == [
        (f"{tmp_path / 'a.jsonl'}:{line}", f"{tmp_path / 'b.jsonl'}:{line}", kind)
        for line, kind in ((1, "same"), (2, "same"), (3, "same prompt"))
    ]


def test_leaks_are_left_out_where_that_is_asked_for(tmp_path: Path, made: list[dict[str, Any]]) -> None:
    prepared = leak(tmp_path, made, "drop")

    assert lines(prepared) == list(range(4, 31)) and prepared.manifest.left_out == {"leaked": 3}
    assert quarantine(tmp_path)[1] == f"stands in validation too: {tmp_path / 'b.jsonl'}:1"


def test_leaks_refuse_the_run_where_that_is_asked_for(tmp_path: Path, made: list[dict[str, Any]]) -> None:
    with pytest.raises(DataError, match=rf"{tmp_path / 'a.jsonl'}:1: says the same as {tmp_path / 'b.jsonl'}:1"):
        leak(tmp_path, made, "error")
    assert not (tmp_path / "data" / "chosen").exists()


def test_a_benchmark_is_looked_for_and_not_tokenised(tmp_path: Path, made: list[dict[str, Any]]) -> None:
    path = rows.write(
        tmp_path / "bench.jsonl", [{"question": row["prompt"], "answer": row["completion"]} for row in made[7:9]]
    )
    fields = {"prompt": "question", "completion": "answer"}
    benchmark = {"path": str(path), "format": "completion", "fields": fields}

    prepared = prepare(tmp_path, made, clean={"leakage": "drop", "benchmarks": [benchmark]})

    assert sorted(set(range(1, 31)) - set(lines(prepared))) == [8, 9]
    assert quarantine(tmp_path)[8] == f"stands in data.clean.benchmarks.0 too: {path}:1"


def test_training_rows_that_all_stand_elsewhere_refuse_the_run(tmp_path: Path, made: list[dict[str, Any]]) -> None:
    named = [{"path": str(rows.write(tmp_path / "b.jsonl", made)), "format": "completion"}]
    with pytest.raises(DataError, match=r"data\.clean\.leakage: all training rows stand elsewhere too"):
        prepare(tmp_path, made, validation=named, clean={"leakage": "drop"})


def test_doubtful_labels_are_listed_and_kept(tmp_path: Path) -> None:
    made = [
        {
            "prompt": f"{'Good' if n % 2 else 'Bad'} thing number {n}.",
            "completion": " x",
            "kind": "good" if n % 2 else "bad",
        }
        for n in range(40)
    ]
    made[10]["kind"] = "good"

    prepared = prepare(tmp_path, made, clean={"label_noise": "kind"})

    assert len(lines(prepared)) == 40
    told = [json.loads(line) for line in (tmp_path / "review.jsonl").read_text().splitlines()]
    assert (told[0]["line"], told[0]["given"], told[0]["suggested"]) == (11, "good", "bad")
    assert f"{len(told)} rows have a label in kind that others contradict: see review.jsonl" in prepared.notes


def test_a_label_that_training_never_sees_is_named(tmp_path: Path, made: list[dict[str, Any]]) -> None:
    pairs = [{"text_a": f"a{n}", "text_b": f"b{n}", "label": "yes" if n % 2 else "no"} for n in range(6)]
    other = rows.write(tmp_path / "b.jsonl", [*pairs[:2], {"text_a": "c", "text_b": "d", "label": "maybe"}])

    prepared = prepare(tmp_path, pairs, format="pair", validation=[{"path": str(other), "format": "pair"}])

    assert f'{other}:3: the label "maybe" stands in 1 row of validation and in no training row' in prepared.notes


def test_the_texts_of_a_pair_are_told_apart(tmp_path: Path) -> None:
    pairs = [{"text_a": f"a{n}", "text_b": f"b{n}", "label": "yes"} for n in range(3)]
    train = prepare(tmp_path, pairs, format="pair").train
    assert train is not None
    types = train.example(0).types
    assert types is not None and len(types) == train.lengths[0]
    single = prepare(tmp_path, rows.completions(3)).train
    assert single is not None and single.example(0).types is None
