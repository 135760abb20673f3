"""Whole runs of a relation classifier by the real command, and the model that comes out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from runs.command import first_validations, metrics, read_json, shardtune, write_recipe
from runs.engines import ENGINES, each
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from trainer.tasks.relations import RelationModel

BERT = {"model_type": "bert", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2} | {
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
PEOPLE = ("Ada", "Bob", "Cleo", "Dan", "Eve")
SAID = {
    "{0} hired {1}.": ("hired", "hired_by"),
    "{0} was hired by {1}.": ("hired_by", "hired"),
    "{0} saw {1}.": ("none", "none"),
}


def rows() -> list[dict[str, Any]]:
    """Each sentence in both directions, so that the marks alone tell the relation."""
    found = []
    for one in PEOPLE:
        for other in PEOPLE:
            for pattern, (forth, back) in SAID.items():
                if one == other:
                    continue
                text = pattern.format(one, other)
                first, second = [0, len(one)], [text.index(other, len(one)), text.index(other, len(one)) + len(other)]
                found.append({"text": text, "head": first, "tail": second, "label": forth})
                found.append({"text": text, "head": second, "tail": first, "label": back})
    return found


def write(folder: Path, lines: list[dict[str, Any]] | None = None, **sections: Any) -> Path:
    path = folder / "related.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in lines or rows()))
    data = {"train": [{"path": str(path), "format": "relation"}], "test": {"fraction": 0.1}}
    settings: dict[str, Any] = {
        "model": {"config": BERT, "tokenizer": {"vocab_size": 320}, "dtype": "float32"},
        "task": {"kind": "relations", "no_relation": "none"},
        "data": {**data, "validation": {"fraction": 0.2, "stratify": "label"}},
        "batch": {"micro": 8, "global": 16},
        "optimizer": {"lr": 2e-3},
        "train": {"max_steps": 120},
        "evaluate": {"every": 40, "metric": "f1", "mode": "max"},
    }
    return write_recipe(folder, **{**settings, **sections})


@pytest.fixture(scope="module", params=each("ddp", slow=("torch", "zero2", "zero3")))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    done = shardtune("train", str(write(folder, **ENGINES[request.param])))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


def test_it_learns_from_the_marks(finished: Path) -> None:
    summary = read_json(finished / "summary.json")
    # Each sentence has two labels: without the marks half of the relations would be wrong.
    assert summary["best"]["f1"] >= 0.9
    found = metrics(finished, "validation")[-1]["metrics"]
    assert found.keys() == {"f1", "precision", "recall", "macro_f1", "accuracy"}


def test_the_saved_model_predicts(finished: Path) -> None:
    model = RelationModel.from_pretrained(finished / "model")
    said = model.predict(rows())
    right = [one == row["label"] for one, row in zip(said, rows(), strict=True)]
    assert sum(right) / len(right) >= 0.9
    done = shardtune("evaluate", str(finished), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    test = read_json(finished / "summary.json")["test"]
    assert json.loads(done.stdout)["metrics"]["f1"] == pytest.approx(test["f1"], abs=1e-6)


def test_transformers_and_a_product_say_the_same(finished: Path) -> None:
    folder = finished / "model"
    body, words = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    head, settings = load_file(folder / "heads.safetensors"), json.loads((folder / "heads.json").read_text())
    text = "[E1]Ada[/E1] was hired by [E2]Bob[/E2]."
    ids = words(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        hidden = body(ids).last_hidden_state[0]
    places = [ids[0].tolist().index(words.convert_tokens_to_ids(mark)) for mark in ("[E1]", "[E2]")]
    logits = head["relations.weight"] @ torch.cat([hidden[place] for place in places]) + head["relations.bias"]
    [said] = RelationModel.from_pretrained(folder).predict(
        [{"text": "Ada was hired by Bob.", "head": [0, 3], "tail": [17, 20]}]
    )
    assert settings["labels"][int(logits.argmax())] == said


@pytest.mark.slow
def test_an_adapter_keeps_its_head(finished: Path, tmp_path: Path) -> None:
    model = {"name": str(finished / "model"), "config": None, "tokenizer": None}
    sections = {"model": model, "adapter": {"kind": "lora", "r": 8}, "optimizer": {"lr": 1e-2}, **ENGINES["ddp"]}
    done = shardtune("train", str(write(tmp_path, **sections, train={"max_steps": 60})))
    assert done.returncode == 0, done.stdout + done.stderr
    test = read_json(tmp_path / "run" / "summary.json")["test"]
    assert test["f1"] >= 0.8
    done = shardtune("evaluate", str(tmp_path / "run"), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["metrics"]["f1"] == pytest.approx(test["f1"], abs=1e-6)
    lines = [{name: row[name] for name in ("text", "head", "tail")} for row in rows()]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = shardtune("predict", str(tmp_path / "run"), "--input", str(tmp_path / "asked.jsonl")).stdout.splitlines()
    right = [json.loads(line)["relation"] == row["label"] for line, row in zip(said, rows(), strict=True)]
    assert sum(right) / len(right) >= 0.8


@pytest.mark.slow
def test_the_number_of_ranks_changes_no_metric(tmp_path: Path) -> None:
    found = first_validations(tmp_path, write)
    assert found[0] == found[1] == found[2]


def test_a_row_that_holds_no_relation_is_named(tmp_path: Path) -> None:
    done = shardtune("train", str(write(tmp_path, [*rows(), {**rows()[0], "head": [0, 99]}])))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "related.jsonl:121: head [0, 99] is outside the text" in done.stderr


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"task": {"kind": "relations", "no_relation": "nothing"}}, "task.no_relation: nothing is no label"),
        ({"model": {"config": {"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2}}}, "is a gpt2"),
    ],
)
def test_what_cannot_be_learned_is_refused(tmp_path: Path, sections: dict[str, Any], message: str) -> None:
    done = shardtune("train", str(write(tmp_path, **sections)))
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr


def test_a_cut_that_takes_an_entity_leaves_the_row_out(tmp_path: Path) -> None:
    text = rows()[0]["text"] + " x" * 60 + " Zoe"
    far = {**rows()[0], "text": text, "tail": [len(text) - 3, len(text)]}
    done = shardtune("train", str(write(tmp_path, [*rows(), far], train={"max_steps": 1})))
    assert done.returncode == 0, done.stdout + done.stderr
    (left,) = (tmp_path / "run" / "quarantine.jsonl").read_text().splitlines()
    assert "cuts off an entity" in json.loads(left)["why"]
