"""A finished run is measured and asked by the real command."""

import json
from pathlib import Path
from typing import Any

import pytest
from runs.command import read_json, shardtune, write_recipe
from runs.test_classify_run import rows, write
from runs.test_seq2seq_run import write as write_pairs


def ask(*arguments: Any, status: int = 0) -> str:
    done = shardtune(*map(str, arguments))
    assert done.returncode == status, done.stdout + done.stderr
    return done.stderr if status else done.stdout


def jsonl(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def classified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classified")
    assert shardtune("train", str(write(folder))).returncode == 0
    return folder / "run"


def test_the_test_rows_give_what_the_run_told(classified: Path) -> None:
    found = json.loads(ask("evaluate", classified, "--json"))
    told = read_json(classified / "summary.json")["test"]
    assert found["rows"] == "test"
    assert found["metrics"] == pytest.approx({key: value for key, value in told.items() if key != "targets"}, abs=1e-6)
    assert [row["label"] for row in found["labels"]] == ["cold", "warm"]
    assert sum(row["examples"] for row in found["labels"]) == told["targets"]


@pytest.mark.slow
def test_a_split_and_a_file_are_measured_too(classified: Path, tmp_path: Path) -> None:
    assert ask("evaluate", classified, "--split", "validation").startswith("validation: loss ")
    wrong = [{"text": row["text"], "label": {"cold": "warm", "warm": "cold"}[row["label"]]} for row in rows()]
    found = json.loads(ask("evaluate", classified, "--input", jsonl(tmp_path / "wrong.jsonl", wrong), "--json"))
    assert found["metrics"]["accuracy"] <= 0.1
    screen = ask("evaluate", classified, "--input", tmp_path / "wrong.jsonl")
    assert "cold was taken for warm" in screen


def test_each_row_is_given_its_label(classified: Path, tmp_path: Path) -> None:
    asked = jsonl(tmp_path / "asked.jsonl", [{"text": row["text"]} for row in rows()])
    assert ask("predict", classified, "--input", asked, "--output", tmp_path / "said.jsonl") == ""
    said = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    assert [row["line"] for row in said] == list(range(1, len(rows()) + 1))
    assert sum(one["label"] == row["label"] for one, row in zip(said, rows(), strict=True)) >= 0.9 * len(said)
    assert all(row["scores"][row["label"]] == max(row["scores"].values()) for row in said)
    printed = ask("predict", classified, "--input", asked).splitlines()
    assert [json.loads(line) for line in printed] == said


def test_wrong_rows_and_folders_are_told(classified: Path, tmp_path: Path) -> None:
    asked = jsonl(tmp_path / "asked.jsonl", [{"text": "There is ice."}, {"txt": "There is sun."}])
    told = ask("predict", classified, "--input", asked, "--output", tmp_path / "said.jsonl", status=3)
    assert "asked.jsonl:2: has no text; it has txt" in told
    assert not [path for path in tmp_path.iterdir() if "said" in path.name]
    lines = ask("predict", classified, "--input", asked, "data.max_bad_rows=1").splitlines()
    assert [json.loads(line).keys() for line in lines] == [
        {"source", "line", "label", "scores"},
        {"source", "line", "why"},
    ]
    assert "is no run folder" in ask("evaluate", tmp_path, status=2)
    assert "'odd' is not one of" in ask("evaluate", classified, "--split", "odd", status=2)


@pytest.mark.slow
def test_an_adapter_is_asked_with_its_labels(classified: Path, tmp_path: Path) -> None:
    model = {"name": str(classified / "model"), "config": None, "tokenizer": None}
    recipe = write(tmp_path, model=model, adapter={"kind": "lora", "r": 4}, train={"max_steps": 4})
    assert shardtune("train", str(recipe)).returncode == 0
    found = json.loads(ask("evaluate", tmp_path / "run", "--json"))
    told = read_json(tmp_path / "run" / "summary.json")["test"]
    assert found["metrics"] == pytest.approx({key: value for key, value in told.items() if key != "targets"}, abs=1e-6)
    asked = jsonl(tmp_path / "asked.jsonl", [{"text": row["text"]} for row in rows()])
    said = [json.loads(line) for line in ask("predict", tmp_path / "run", "--input", asked).splitlines()]
    assert sum(one["label"] == row["label"] for one, row in zip(said, rows(), strict=True)) >= 0.9 * len(said)


@pytest.mark.slow
def test_a_translator_and_a_language_model_answer(tmp_path: Path) -> None:
    for name, write_one in (("pairs", write_pairs), ("plain", write_recipe)):
        folder = tmp_path / name
        folder.mkdir()
        path = write_one(folder, train={"max_steps": 40, "threads": 1}, evaluate={"every": 40, "answer_tokens": 20})
        assert shardtune("train", str(path)).returncode == 0
        column = {"pairs": "en", "plain": "prompt"}[name]
        lines = [{column: "two eggs"}, {column: "three eggs and more"}]
        said = ask("predict", folder / "run", "--input", jsonl(folder / "asked.jsonl", lines)).splitlines()
        assert [json.loads(line)["line"] for line in said] == [1, 2]
        assert all(isinstance(json.loads(line)["answer"], str) for line in said)
        assert "loss" in ask("evaluate", folder / "run")
    # Of several answers the likeliest one stands first.
    written = ask("predict", folder / "run", "--input", folder / "asked.jsonl", "--n-best", "4")
    several = [json.loads(line) for line in written.splitlines()]
    assert [row["query"] for row in several] == ["two eggs", "three eggs and more"]
    assert all(len(set(row["candidates"])) == len(row["candidates"]) <= 4 for row in several)
    greedy = [json.loads(line)["answer"].strip() for line in said]
    assert [row["candidates"][0] for row in several] == greedy
    refused = shardtune(
        "predict", str(tmp_path / "pairs" / "run"), "--input", str(folder / "asked.jsonl"), "--n-best", "4"
    )
    assert refused.returncode == 2
    assert "--n-best does not ask runs of task.kind: seq2seq" in refused.stderr
