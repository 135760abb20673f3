"""Whole runs of a tagger by the real command, and the model that comes out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from runs.command import first_validations, metrics, read_json, shardtune, write_recipe
from runs.engines import ENGINES, each
from transformers import AutoModelForTokenClassification, AutoTokenizer

from trainer.tasks.tag_model import TagModel

BERT = {"model_type": "bert", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2} | {
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
NAMES = [["Ada", "Lovelace"], ["Bob"], ["Cleo", "de", "Merode"], ["Dan"], ["Eve", "Kosofsky", "Sedgwick"]]
CITIES = [["London"], ["New", "York"], ["Rio"], ["Cape", "Town"]]


def rows() -> list[dict[str, Any]]:
    found = []
    for name in NAMES:
        for city in CITIES:
            for verb in ("lives", "worked", "stays"):
                words = [*name, verb, "in", *city, "."]
                tags = ["B-person", *["I-person"] * (len(name) - 1), "O", "O"]
                tags += ["B-city", *["I-city"] * (len(city) - 1), "O"]
                found.append({"words": words, "tags": tags})
    return found


def write(folder: Path, lines: list[dict[str, Any]] | None = None, **sections: Any) -> Path:
    path = folder / "tagged.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in lines or rows()))
    data = {"train": [{"path": str(path), "format": "words"}], "validation": {"fraction": 0.2}}
    settings: dict[str, Any] = {
        "model": {"config": BERT, "tokenizer": {"vocab_size": 320}, "dtype": "float32"},
        "task": {"kind": "token_labels"},
        "data": {**data, "test": {"fraction": 0.1}},
        "batch": {"micro": 4, "global": 16},
        "optimizer": {"lr": 3e-3},
        "train": {"max_steps": 60},
        "evaluate": {"every": 30, "metric": "f1", "mode": "max"},
    }
    return write_recipe(folder, **{**settings, **sections})


RUNS = {
    "linear": {"task": {"kind": "token_labels"}, **ENGINES["torch"]},
    "crf": {"task": {"kind": "token_labels", "head": "crf"}, **ENGINES["ddp"]},
    "zero3": {"task": {"kind": "token_labels", "head": "crf"}, **ENGINES["zero3"]},
}


@pytest.fixture(scope="module", params=each("linear", "crf", slow=("zero3",)))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    done = shardtune("train", str(write(folder, **RUNS[request.param])))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


def test_it_learns_names(finished: Path) -> None:
    summary = read_json(finished / "summary.json")
    assert summary["best"]["f1"] >= 0.9
    assert metrics(finished, "validation")[-1]["metrics"].keys() == {"f1", "precision", "recall", "accuracy"}


def test_another_program_says_the_same(finished: Path, tmp_path: Path) -> None:
    """transformers alone, our own class, and the command."""
    result, own = finished / "model", [row["words"] for row in rows()]
    model = AutoModelForTokenClassification.from_pretrained(result).eval()
    words = AutoTokenizer.from_pretrained(result)
    assert model.config.id2label == {0: "O", 1: "B-city", 2: "B-person", 3: "I-city", 4: "I-person"}
    ours = TagModel.from_pretrained(result).predict(own)
    assert sum(said == row["tags"] for said, row in zip(ours, rows(), strict=True)) >= 0.9 * len(own)
    if not (result / "heads.safetensors").is_file():
        for said, row in zip(ours, own, strict=True):
            # The new tokenizer is one of bytes, which tells a space before a word.
            spaced = [row[0], *(f" {word}" for word in row[1:])]
            taken = words(spaced, is_split_into_words=True, return_tensors="pt")
            with torch.no_grad():
                tokens = model(**taken).logits[0].argmax(-1).tolist()
            first = [taken.word_ids().index(word) for word in range(len(row))]
            assert [model.config.id2label[tokens[place]] for place in first] == said
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps({"words": row}) + "\n" for row in own))
    done = shardtune("predict", str(finished), "--input", str(tmp_path / "asked.jsonl"))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["tags"] for line in lines] == ours
    last = lines[-1]["entities"][-1]
    assert {name: last[name] for name in ("type", "start", "end", "text")} == {
        "type": "city",
        "start": 5,
        "end": 7,
        "text": "Cape Town",
    }


def test_a_finished_run_measures_what_it_told(finished: Path) -> None:
    done = shardtune("evaluate", str(finished), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    test = read_json(finished / "summary.json")["test"]
    assert json.loads(done.stdout)["metrics"]["f1"] == pytest.approx(test["f1"], abs=1e-6)


@pytest.mark.slow
def test_an_adapter_keeps_the_head(finished: Path, tmp_path: Path) -> None:
    model = {"name": str(finished / "model"), "config": None, "tokenizer": None}
    task = {"kind": "token_labels", "head": "crf"}
    sections = {"model": model, "task": task, "adapter": {"kind": "lora", "r": 8}, "optimizer": {"lr": 1e-2}}
    done = shardtune("train", str(write(tmp_path, **sections)))
    assert done.returncode == 0, done.stdout + done.stderr
    test = read_json(tmp_path / "run" / "summary.json")["test"]
    assert test["f1"] >= 0.9
    done = shardtune("evaluate", str(tmp_path / "run"), "--json")
    assert json.loads(done.stdout)["metrics"]["f1"] == pytest.approx(test["f1"], abs=1e-6)


@pytest.mark.slow
def test_the_number_of_ranks_changes_no_metric(tmp_path: Path) -> None:
    found = first_validations(tmp_path, write)
    assert found[0] == found[1] == found[2]


def test_tags_that_are_not_bio_are_named(tmp_path: Path) -> None:
    done = shardtune("train", str(write(tmp_path, [*rows(), {"words": ["In", "Rio"], "tags": ["O", "I-city"]}])))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "tagged.jsonl:61: tags.1 is I-city (the word Rio), which follows O, so no entity city goes on" in done.stderr


def test_a_tag_that_no_training_row_has_is_named(tmp_path: Path) -> None:
    held = tmp_path / "held.jsonl"
    held.write_text('{"words": ["Rio"], "tags": ["B-citty"]}\n')
    path = tmp_path / "tagged.jsonl"
    data = {"train": [{"path": str(path), "format": "words"}], "validation": [{"path": str(held), "format": "words"}]}
    done = shardtune("train", str(write(tmp_path, data=data)))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "held.jsonl:1: the tag B-citty stands in no training row; did you mean B-city?" in done.stderr
