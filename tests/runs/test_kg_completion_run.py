"""Whole runs over a small knowledge graph by the real command, and the model that comes out."""

import json
from pathlib import Path
from typing import Any

import pytest
from runs.command import first_validations, metrics, read_json, shardtune, write_recipe
from runs.engines import ENGINES
from transformers import AutoModel

from trainer.tasks.kg_model import KgModel

BERT = {"model_type": "bert", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2} | {
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
CAPITALS = {"France": "Paris", "Peru": "Lima", "Kenya": "Nairobi", "Japan": "Tokyo", "Cuba": "Havana", "Iran": "Tehran"}


def rows() -> list[dict[str, str]]:
    found = []
    for country, city in CAPITALS.items():
        found.append({"head": city, "relation": "capital_of", "tail": country})
        found.append({"head": city, "relation": "lies_in", "tail": country})
    return found


def write(folder: Path, test: list[dict[str, str]] | None = None, **sections: Any) -> Path:
    path, held = folder / "triples.jsonl", folder / "held.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()[:-1]))
    held.write_text("".join(json.dumps(row) + "\n" for row in test or rows()[-1:]))
    data = {"train": [{"path": str(path), "format": "triple"}], "validation": [{"path": str(held), "format": "triple"}]}
    settings: dict[str, Any] = {
        "model": {"config": BERT, "tokenizer": {"vocab_size": 320}, "dtype": "float32"},
        "task": {"kind": "kg_completion"},
        "data": data,
        "batch": {"micro": 2, "global": 12},
        "optimizer": {"lr": 2e-3},
        "train": {"max_steps": 60},
        "evaluate": {"every": 30, "metric": "mrr", "mode": "max"},
    }
    return write_recipe(folder, **{**settings, **sections})


def asked(folder: Path, run: Path) -> list[list[str]]:
    """The entities that are told for the tails of capitals, and for their heads."""
    questions = [{"head": city, "relation": "lies_in"} for city in CAPITALS.values()]
    questions += [{"relation": "lies_in", "tail": country} for country in CAPITALS]
    (folder / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    done = shardtune("predict", str(run), "--input", str(folder / "asked.jsonl"))
    assert done.returncode == 0, done.stdout + done.stderr
    return [[one["entity"] for one in json.loads(line)["entities"]] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("task", "engine"),
    [
        pytest.param({}, "ddp", marks=pytest.mark.slow),
        pytest.param({"encoder": "cross", "negatives": 3}, "torch", marks=pytest.mark.slow),
        pytest.param({}, "zero3", marks=pytest.mark.slow),
        pytest.param({"encoder": "cross", "negatives": 3}, "zero3", marks=pytest.mark.slow),
    ],
)
def test_links_are_learned_and_told(tmp_path: Path, task: dict[str, Any], engine: str) -> None:
    batch = {"micro": 6 // ENGINES[engine]["launch"]["processes"], "global": 6}
    steps = {"max_steps": 150 if task else 60}
    recipe = write(tmp_path, task={"kind": "kg_completion", **task}, train=steps, batch=batch, **ENGINES[engine])
    done = shardtune("train", str(recipe))
    assert done.returncode == 0, done.stdout + done.stderr
    summary = read_json(tmp_path / "run" / "summary.json")
    assert summary["best"]["mrr"] >= 0.5
    assert metrics(tmp_path / "run", "validation")[-1]["metrics"].keys() == {"mrr", "hits_1", "hits_3", "hits_10"}
    told = asked(tmp_path, tmp_path / "run")
    right = [*CAPITALS, *CAPITALS.values()]
    assert sum(names[0] == name for names, name in zip(told, right, strict=True)) >= 7
    model = KgModel.from_pretrained(tmp_path / "run" / "model")
    assert [name for name, _ in model.rank("Lima", "lies_in")] == told[1]
    assert [name for name, _ in model.rank("Peru", "lies_in", back=True)] == told[7]
    assert AutoModel.from_pretrained(tmp_path / "run" / "model").config.model_type == "bert"
    done = shardtune("evaluate", str(tmp_path / "run"), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["metrics"]["mrr"] == pytest.approx(summary["best"]["mrr"], abs=1e-6)


@pytest.mark.slow
def test_the_number_of_ranks_changes_no_metric(tmp_path: Path) -> None:
    found = first_validations(tmp_path, lambda folder, **sections: write(folder, rows(), **sections))
    assert found[0] == found[1] == found[2]


def test_a_relation_that_no_training_row_has_is_named(tmp_path: Path) -> None:
    test = [{"head": "Lima", "relation": "lies_inn", "tail": "Peru"}]
    done = shardtune("train", str(write(tmp_path, test)))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "held.jsonl:1: relation lies inn is in no training row; did you mean lies in?" in done.stderr
