"""Whole runs of a reranker by the real command, and the model that comes out."""

import json
from pathlib import Path
from typing import Any

import torch
from runs.command import metrics, read_json, shardtune, write_recipe
from runs.engines import ENGINES
from transformers import AutoModelForSequenceClassification, AutoTokenizer

THINGS = {"snow": "white", "grass": "green", "coal": "black", "blood": "red"}


def rows() -> list[dict[str, Any]]:
    found = []
    for year in range(1900, 1920):
        for place, (thing, colour) in enumerate(THINGS.items()):
            others = [other for other in THINGS.values() if other != colour]
            candidates = [*others[:place], colour, *others[place:]]
            relevance = [int(candidate == colour) for candidate in candidates]
            found.append({"query": f"In {year}: {thing}?", "candidates": candidates, "relevance": relevance})
    return found


def write(folder: Path, lines: list[dict[str, Any]] | None = None, **sections: Any) -> Path:
    path = folder / "ranked.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in lines or rows()))
    data = {"train": [{"path": str(path), "format": "ranking"}], "validation": {"fraction": 0.2}}
    settings: dict[str, Any] = {
        "task": {"kind": "rerank"},
        "data": data,
        "batch": {"micro": 4, "global": 8},
        "optimizer": {"lr": 3e-3},
        "train": {"max_steps": 120},
        "evaluate": {"every": 60, "metric": "accuracy_at_1", "mode": "max"},
    }
    return write_recipe(folder, **{**settings, **sections})


def test_the_best_candidate_is_learned_and_told(tmp_path: Path) -> None:
    useless = {"query": "In 2000: ink?", "candidates": ["blue", "red"], "relevance": [0, 0]}
    done = shardtune("train", str(write(tmp_path, [*rows(), useless], **ENGINES["ddp"])))
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "run"
    assert read_json(run / "summary.json")["best"]["accuracy_at_1"] >= 0.9
    assert metrics(run, "validation")[-1]["metrics"].keys() == {"mrr", "ndcg_10", "accuracy_at_1"}
    [left] = (run / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(left)["why"] == "has no positive candidate"
    asked = [{"query": row["query"], "candidates": row["candidates"]} for row in rows()[:8]]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    said = shardtune("predict", str(run), "--input", str(tmp_path / "asked.jsonl"))
    assert said.returncode == 0, said.stdout + said.stderr
    told = [json.loads(line) for line in said.stdout.splitlines()]
    assert [line["best"] for line in told] == [*THINGS.values()] * 2
    # transformers alone says the same: what stands between the texts of this tokenizer is a line end.
    model = AutoModelForSequenceClassification.from_pretrained(run / "model").eval()
    words = AutoTokenizer.from_pretrained(run / "model")
    for candidate in told[0]["candidates"]:
        with torch.no_grad():
            score = model(**words(f"{asked[0]['query']}\n{candidate['text']}", return_tensors="pt")).logits[0, 0]
        assert abs(float(score) - candidate["score"]) < 1e-3


def test_wrong_candidates_are_named(tmp_path: Path) -> None:
    bad = [{**rows()[0], "relevance": [1, 0]}]
    done = shardtune("train", str(write(tmp_path, [*rows(), *bad])))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "ranked.jsonl:81: relevance holds 2 numbers for 4 candidates; each needs one" in done.stderr


def test_no_query_with_a_right_candidate_is_told(tmp_path: Path) -> None:
    done = shardtune("train", str(write(tmp_path, [{**row, "relevance": [0, 0, 0, 0]} for row in rows()])))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "none of its 80 queries has a candidate to learn from" in done.stderr


def test_candidates_that_a_cut_makes_alike_are_told(tmp_path: Path) -> None:
    long = [{**row, "query": row["query"] + " or not" * 40} for row in rows()]
    done = shardtune("train", str(write(tmp_path, long)))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "data.max_length" in done.stderr


def test_too_few_queries_with_a_right_candidate_are_refused(tmp_path: Path) -> None:
    useless = [{**row, "relevance": [0, 0, 0, 0]} for row in rows()]
    done = shardtune("train", str(write(tmp_path, [*rows()[:10], *useless[10:]])))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "70 queries have no candidate to learn from" in done.stderr
