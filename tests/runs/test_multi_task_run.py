"""Whole runs of several tasks by the real command, and the model that comes out."""

import json
from pathlib import Path
from typing import Any

import pytest
from runs import test_classify_run, test_relations_run, test_token_labels_run
from runs.command import first_validations, metrics, read_json, shardtune, write_recipe
from runs.engines import ENGINES, each
from transformers import AutoModel

from trainer.tasks.multi_model import MultiTaskModel

TASKS = {
    "place": {"kind": "classify"},
    "names": {"kind": "token_labels"},
    "hired": {"kind": "relations", "no_relation": "none"},
}


def write(folder: Path, **sections: Any) -> Path:
    texts, words, related = (folder / f"{name}.jsonl" for name in ("texts", "words", "related"))
    related.write_text("".join(json.dumps(row) + "\n" for row in test_relations_run.rows()))
    texts.write_text("".join(json.dumps(row) + "\n" for row in test_classify_run.rows()))
    words.write_text("".join(json.dumps(row) + "\n" for row in test_token_labels_run.rows()))
    train = [
        {"path": str(texts), "format": "text", "task": "place"},
        {"path": str(words), "format": "words", "task": "names"},
        {"path": str(related), "format": "relation", "task": "hired"},
    ]
    settings: dict[str, Any] = {
        "model": {"config": test_token_labels_run.BERT, "tokenizer": {"vocab_size": 320}, "dtype": "float32"},
        "task": {"kind": "multi_task", "tasks": TASKS, "balance": "uncertainty", "sampling": "temperature"},
        "data": {"train": train, "validation": {"fraction": 0.2}, "test": {"fraction": 0.1}},
        "batch": {"micro": 4, "global": 16},
        "optimizer": {"lr": 3e-3},
        "train": {"max_steps": 120},
        "evaluate": {"every": 60, "metric": "mean", "mode": "max"},
    }
    return write_recipe(folder, **{**settings, **sections})


def said(folder: Path, name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    asked = folder / "asked.jsonl"
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = shardtune("predict", str(folder / "run"), "--input", str(asked), "--task", name)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("engine", each(slow=("torch", "ddp", "zero3")))
def test_all_tasks_are_learned_and_told(tmp_path: Path, engine: str) -> None:
    done = shardtune("train", str(write(tmp_path, **ENGINES[engine])))
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "run"
    best = read_json(run / "summary.json")["best"]
    assert best["mean"] >= 0.8
    measured = metrics(run, "validation")[-1]["metrics"]
    assert {"mean", "place.accuracy", "place.loss", "names.f1", "names.loss", "hired.f1"} <= measured.keys()
    texts, words = test_classify_run.rows(), test_token_labels_run.rows()
    labels = [row["label"] for row in said(tmp_path, "place", [{"text": row["text"]} for row in texts])]
    assert sum(label == row["label"] for label, row in zip(labels, texts, strict=True)) >= 0.8 * len(texts)
    tags = [row["tags"] for row in said(tmp_path, "names", [{"words": row["words"]} for row in words])]
    assert sum(own == row["tags"] for own, row in zip(tags, words, strict=True)) >= 0.8 * len(words)
    related = test_relations_run.rows()
    asked = [{name: row[name] for name in ("text", "head", "tail")} for row in related]
    relations = [row["relation"] for row in said(tmp_path, "hired", asked)]
    assert sum(one == row["label"] for one, row in zip(relations, related, strict=True)) >= 0.8 * len(related)
    model = MultiTaskModel.from_pretrained(run / "model")
    assert [row["label"] for row in model.predict("place", [row["text"] for row in texts])] == labels
    assert [row["tags"] for row in model.predict("names", [row["words"] for row in words])] == tags
    assert [row["relation"] for row in model.predict("hired", related)] == relations
    assert AutoModel.from_pretrained(run / "model").config.model_type == "bert"
    done = shardtune("evaluate", str(run), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    test = read_json(run / "summary.json")["test"]
    assert json.loads(done.stdout)["metrics"]["mean"] == pytest.approx(test["mean"], abs=1e-6)
    wrong = shardtune("predict", str(run), "--input", str(tmp_path / "asked.jsonl"))
    assert wrong.returncode == 2
    assert "--task: nothing is no task of this run; name one of place, names, hired" in wrong.stderr


@pytest.mark.slow
def test_the_number_of_ranks_changes_no_metric(tmp_path: Path) -> None:
    found = first_validations(tmp_path, write)
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert found[0] == pytest.approx(found[2], abs=1e-6)
