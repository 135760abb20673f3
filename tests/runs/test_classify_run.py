"""Whole runs of a classifier by the real command, and the model that another program loads."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from runs.command import first_validations, metrics, read_json, shardtune, write_recipe
from runs.engines import ENGINES, each
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from trainer.tasks.pooled import PooledModel

GRADES = {"low": "bad", "middle": "fair", "high": "good"}
WORDS = {"warm": ["sun", "beach", "summer", "desert"], "cold": ["snow", "ice", "winter", "frost"]}


def rows() -> list[dict[str, str]]:
    return [
        {"text": f"In place {place} there is {word} and {other}.", "label": label}
        for label, words in WORDS.items()
        for word in words
        for other in words
        for place in range(3)
    ]


def write(folder: Path, **sections: Any) -> Path:
    path = folder / "labelled.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    data = {
        "train": [{"path": str(path), "format": "text"}],
        "validation": {"fraction": 0.2, "stratify": "label"},
        "test": {"fraction": 0.1, "stratify": "label"},
    }
    batch = {"micro": 8, "global": 16}
    evaluate = {"every": 10, "metric": "accuracy", "mode": "max"}
    base: dict[str, Any] = {"task": {"kind": "classify"}, "data": data, "batch": batch, "evaluate": evaluate}
    return write_recipe(folder, **{**base, "train": {"max_steps": 30}, **sections})


@pytest.fixture(scope="module", params=each("torch", slow=("zero2", "zero3")))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    done = shardtune("train", str(write(folder, **ENGINES[request.param])))
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "screen.txt").write_text(done.stdout)
    return folder / "run"


def test_it_learns_and_tells_how_well(finished: Path) -> None:
    summary = read_json(finished / "summary.json")
    assert summary["best"]["accuracy"] >= 0.9
    assert summary["test"]["accuracy"] >= 0.9
    assert metrics(finished, "validation")[-1]["metrics"].keys() == {"accuracy", "macro_f1", "matthews", "auroc"}
    screen = (finished.parent / "screen.txt").read_text()
    assert f"Validation accuracy: {summary['validation']['first']:.4f} before, " in screen
    assert "of the final model, accuracy " in screen


def test_another_program_measures_the_same_accuracy(finished: Path) -> None:
    from trainer.config.load import load
    from trainer.data import corpus, targets, tokenizer

    recipe = load(finished / "recipe.yaml")
    prepared = corpus.prepare(recipe, tokenizer.load(recipe, finished), finished)
    labels = targets.of_corpus(recipe.task, prepared)
    assert prepared.test is not None
    assert labels is not None
    model = AutoModelForSequenceClassification.from_pretrained(finished / "model").eval()
    words = AutoTokenizer.from_pretrained(finished / "model")
    assert model.config.id2label == {0: "cold", 1: "warm"}
    assert model.config.problem_type == "single_label_classification"
    right = 0
    for row, label in enumerate(labels.targets["test"].tolist()):
        tokens = prepared.test.tokens(row).tolist()
        # The tokens are those of the text, as the model's own tokenizer has them.
        assert words(words.decode(tokens))["input_ids"] == tokens
        with torch.no_grad():
            right += int(model(torch.tensor([tokens])).logits.argmax()) == label
    assert right / len(prepared.test) == pytest.approx(read_json(finished / "summary.json")["test"]["accuracy"])


@pytest.mark.slow
def test_an_adapter_trains_the_head_and_is_loaded_with_it(tmp_path: Path) -> None:
    base, flipped = tmp_path / "base", tmp_path / "flipped"
    for folder in (base, flipped):
        folder.mkdir()
    assert shardtune("train", str(write(base, train={"max_steps": 2}))).returncode == 0
    model = {"name": str(base / "run" / "model"), "config": None, "tokenizer": None}
    recipe = write(flipped, model=model, adapter={"kind": "lora", "r": 4}, optimizer={"lr": 2e-2})
    done = shardtune("train", str(recipe))
    assert done.returncode == 0, done.stdout + done.stderr
    adapter = AutoPeftModelForSequenceClassification.from_pretrained(flipped / "run" / "adapter", num_labels=2).eval()
    words = AutoTokenizer.from_pretrained(flipped / "run" / "adapter")
    with torch.no_grad():
        said = [int(adapter(**words(row["text"], return_tensors="pt")).logits.argmax()) for row in rows()]
    right = [number == ["cold", "warm"].index(row["label"]) for number, row in zip(said, rows(), strict=True)]
    assert sum(right) / len(right) >= 0.9


@pytest.mark.slow
def test_the_number_of_ranks_changes_no_metric(tmp_path: Path) -> None:
    found = first_validations(tmp_path, write)
    assert found[0] == found[1] == found[2]


def test_a_run_without_patience_ends_early_and_keeps_its_best(tmp_path: Path) -> None:
    recipe = write(tmp_path, evaluate={"every": 1, "metric": "loss", "patience": 2}, optimizer={"lr": 0.5})
    done = shardtune("train", str(recipe))
    assert done.returncode == 0, done.stdout + done.stderr
    summary = read_json(tmp_path / "run" / "summary.json")
    losses = [event["loss"] for event in metrics(tmp_path / "run", "validation")]
    assert summary["status"] == "completed"
    assert summary["steps"] < 30
    assert summary["steps"] == summary["best"]["step"] + 2
    assert summary["best"]["loss"] == min(losses)


def test_rows_without_their_label_are_named(tmp_path: Path) -> None:
    bad = [{"text": "Neither."}, {"text": "Neither.", "label": None}, {"text": "Neither.", "label": ["warm"]}]
    recipe = write(tmp_path, data={"train": [{"path": str(tmp_path / "labelled.jsonl"), "format": "text"}]})
    with (tmp_path / "labelled.jsonl").open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in bad))
    done = shardtune("train", str(recipe))
    assert done.returncode == 3
    first = len(rows()) + 1
    assert f"labelled.jsonl:{first}: label is missing, which task.label names; the row has text" in done.stderr
    assert f"labelled.jsonl:{first + 1}: label is null, which task.label names" in done.stderr
    assert f"labelled.jsonl:{first + 2}: label is a list; set task.problem: multiple" in done.stderr


def write_graded(folder: Path, **sections: Any) -> Path:
    path = folder / "graded.jsonl"
    graded = [
        {"text": f"In place {place} it was {word}.", "label": grade}
        for grade, word in GRADES.items()
        for place in range(24)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in graded))
    data = {"train": [{"path": str(path), "format": "text"}], "validation": {"fraction": 0.2, "stratify": "label"}}
    settings: dict[str, Any] = {
        "task": {"kind": "classify", "problem": "ordinal", "labels": list(GRADES)},
        "data": data,
        "evaluate": {"every": 20, "metric": "mae"},
        "train": {"max_steps": 60},
    }
    return write(folder, **{**settings, **sections})


def said_of_grades(folder: Path) -> list[dict[str, Any]]:
    asked = folder / "asked.jsonl"
    asked.write_text("".join(json.dumps({"text": f"In place 3 it was {word}."}) + "\n" for word in GRADES.values()))
    said = shardtune("predict", str(folder / "run"), "--input", str(asked))
    assert said.returncode == 0, said.stdout + said.stderr
    return [json.loads(line) for line in said.stdout.splitlines()]


@pytest.mark.slow
def test_labels_of_an_order_are_learned_and_told(tmp_path: Path) -> None:
    done = shardtune("train", str(write_graded(tmp_path)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_json(tmp_path / "run" / "summary.json")["best"]["mae"] <= 0.1
    told = said_of_grades(tmp_path)
    assert [row["label"] for row in told] == list(GRADES)
    assert all(sum(row["scores"].values()) == pytest.approx(1.0) for row in told)
    config = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "model").config
    assert config.id2label == {0: "above low", 1: "above middle"}
    assert config.ordinal_labels == list(GRADES)


@pytest.mark.slow
def test_an_adapter_tells_labels_of_an_order_too(tmp_path: Path) -> None:
    base, adapted = tmp_path / "base", tmp_path / "adapted"
    for folder in (base, adapted):
        folder.mkdir()
    assert shardtune("train", str(write(base, train={"max_steps": 2}))).returncode == 0
    model = {"name": str(base / "run" / "model"), "config": None, "tokenizer": None}
    sections = {"model": model, "adapter": {"kind": "lora", "r": 4}, "optimizer": {"lr": 2e-2}}
    done = shardtune("train", str(write_graded(adapted, **sections)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["label"] for row in said_of_grades(adapted)] == list(GRADES)


@pytest.mark.slow
def test_the_mean_of_all_tokens_is_read_too(tmp_path: Path) -> None:
    bert = {"model_type": "bert", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    model = {"config": {**bert, "num_attention_heads": 4, "max_position_embeddings": 64}}
    sections = {"model": model, "task": {"kind": "classify", "pooling": "mean"}, "optimizer": {"lr": 5e-3}}
    done = shardtune("train", str(write(tmp_path, **sections, **ENGINES["ddp"])))
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_json(tmp_path / "run" / "summary.json")["test"]["accuracy"] >= 0.9
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in rows()))
    said = shardtune("predict", str(tmp_path / "run"), "--input", str(tmp_path / "asked.jsonl"))
    assert said.returncode == 0, said.stdout + said.stderr
    labels = [json.loads(line)["label"] for line in said.stdout.splitlines()]
    assert sum(label == row["label"] for label, row in zip(labels, rows(), strict=True)) >= 0.9 * len(labels)
    pooled = PooledModel.from_pretrained(tmp_path / "run" / "model")
    assert [row["label"] for row in pooled.predict([row["text"] for row in rows()])] == labels


@pytest.mark.slow
def test_one_of_several_labels_is_said_from_the_threshold_on(tmp_path: Path) -> None:
    path = tmp_path / "several.jsonl"
    several = [
        {"text": row["text"], "label": [row["label"], "text"][: 1 + number % 2]} for number, row in enumerate(rows())
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in several))
    data = {"train": [{"path": str(path), "format": "text"}], "test": {"fraction": 0.2}}
    task = {"kind": "classify", "problem": "multiple", "threshold": 0.2}
    recipe = write(tmp_path, data=data, task=task, evaluate={"every": 5, "metric": "loss"}, train={"max_steps": 5})
    done = shardtune("train", str(recipe))
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "run"
    assert read_json(run / "model" / "config.json")["label_threshold"] == 0.2

    (tmp_path / "asked.jsonl").write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in several))
    said = shardtune("predict", str(run), "--input", str(tmp_path / "asked.jsonl")).stdout.splitlines()
    answers = [json.loads(line) for line in said]
    assert all(one["labels"] == [name for name, chance in one["scores"].items() if chance > 0.2] for one in answers)
    # More is said than from one half on.
    assert any(0.2 < chance < 0.5 for one in answers for chance in one["scores"].values())
