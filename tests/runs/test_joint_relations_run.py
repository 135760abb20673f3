"""Whole runs over entities and relations by the real command, and the model that comes out."""

import json
from pathlib import Path
from typing import Any

import pytest
from runs.command import first_validations, metrics, read_json, shardtune, write_recipe
from runs.engines import ENGINES, each
from runs.test_relations_run import BERT
from transformers import AutoModel

from trainer.tasks.joint_model import JointModel

PEOPLE = ("Ada", "Bob", "Cleo", "Dan", "Eve Moss", "Flo Hill")
PLACES = ("Bonn", "Lima", "Oslo", "New York")
SAID = {"{0} lives in {1} .": ("lives in", 0, 1), "{1} is home of {0} .": ("home of", 1, 0), "{0} left {1} .": None}


def rows() -> list[dict[str, Any]]:
    """Each person and each place in each sentence; whoever has left a place is not related to it."""
    found = []
    for person in PEOPLE:
        for place in PLACES:
            for pattern, related in SAID.items():
                words: list[str] = []
                entities = {}
                for part in pattern.split():
                    number = {"{0}": 0, "{1}": 1}.get(part)
                    own = [part] if number is None else (person, place)[number].split()
                    if number is not None:
                        kind = ("person", "place")[number]
                        entities[number] = {"type": kind, "start": len(words), "end": len(words) + len(own)}
                    words += own
                relations = [dict(zip(("type", "head", "tail"), related, strict=True))] if related else []
                found.append({"words": words, "entities": [entities[0], entities[1]], "relations": relations})
    return found


def write(folder: Path, lines: list[dict[str, Any]] | None = None, **sections: Any) -> Path:
    path = folder / "sentences.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in lines or rows()))
    data = {"train": [{"path": str(path), "format": "entities"}], "test": {"fraction": 0.15}}
    settings: dict[str, Any] = {
        "model": {"config": BERT, "tokenizer": {"vocab_size": 320}, "dtype": "float32"},
        "task": {"kind": "joint_relations"},
        "data": {**data, "validation": {"fraction": 0.15}},
        "batch": {"micro": 8, "global": 16},
        "optimizer": {"lr": 3e-3},
        "train": {"max_steps": 100},
        "evaluate": {"every": 50},
    }
    return write_recipe(folder, **{**settings, **sections})


@pytest.fixture(scope="module", params=each("ddp", slow=("torch", "zero2", "zero3")))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    done = shardtune("train", str(write(folder, **ENGINES[request.param])))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


def test_it_learns_both(finished: Path) -> None:
    found = metrics(finished, "validation")[-1]["metrics"]
    of_entities = {"entity_f1", "entity_precision", "entity_recall"}
    assert found.keys() == {"f1", "precision", "recall", "boundaries_f1", *of_entities}
    assert found["f1"] >= 0.9
    assert found["entity_f1"] >= 0.9


def test_the_saved_model_reads_sentences(finished: Path) -> None:
    AutoModel.from_pretrained(finished / "model")
    found = JointModel.from_pretrained(finished / "model").predict([row["words"] for row in rows()])
    right = [said_of(one) == said_of(row) for one, row in zip(found, rows(), strict=True)]
    assert sum(right) / len(right) >= 0.9
    done = shardtune("evaluate", str(finished), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    test = read_json(finished / "summary.json")["test"]
    assert json.loads(done.stdout)["metrics"]["f1"] == pytest.approx(test["f1"], abs=1e-6)


def test_a_finished_run_answers_rows(finished: Path, tmp_path: Path) -> None:
    asked = [{"words": row["words"]} for row in rows()]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    done = shardtune("predict", str(finished), "--input", str(tmp_path / "asked.jsonl"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    model = JointModel.from_pretrained(finished / "model")
    for one, other in zip(found, model.predict([row["words"] for row in rows()]), strict=True):
        assert said_of(one) == said_of(other)


def said_of(found: dict[str, Any]) -> dict[str, Any]:
    """Entities and relations of a sentence, whatever their order."""
    entities = found["entities"]
    order = sorted(range(len(entities)), key=lambda place: entities[place]["type"])
    kept = [{name: entities[place][name] for name in ("type", "start", "end")} for place in order]
    relations = [
        {"type": each["type"], "head": order.index(each["head"]), "tail": order.index(each["tail"])}
        for each in found["relations"]
    ]
    return {"entities": kept, "relations": relations}


@pytest.mark.slow
def test_an_adapter_keeps_its_heads(finished: Path, tmp_path: Path) -> None:
    model = {"name": str(finished / "model"), "config": None, "tokenizer": None}
    sections = {"model": model, "adapter": {"kind": "lora", "r": 8}, "optimizer": {"lr": 1e-2}, **ENGINES["ddp"]}
    done = shardtune("train", str(write(tmp_path, **sections, train={"max_steps": 50})))
    assert done.returncode == 0, done.stdout + done.stderr
    test = read_json(tmp_path / "run" / "summary.json")["test"]
    assert test["f1"] >= 0.7
    done = shardtune("evaluate", str(tmp_path / "run"), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["metrics"]["f1"] == pytest.approx(test["f1"], abs=1e-6)


@pytest.mark.slow
def test_the_number_of_ranks_changes_no_metric(tmp_path: Path) -> None:
    found = first_validations(tmp_path, write)
    assert found[0] == found[1] == found[2]


def test_a_row_that_does_not_fit_is_named(tmp_path: Path) -> None:
    wrong = {**rows()[0], "relations": [{"type": "lives in", "head": 0, "tail": 7}]}
    done = shardtune("train", str(write(tmp_path, [*rows(), wrong])))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "sentences.jsonl:73: relations.0.tail is 7, and the row has 2 entities" in done.stderr


def test_a_relation_that_no_training_row_has_is_named(tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    row = {**rows()[0], "relations": [{"type": "live in", "head": 0, "tail": 1}]}
    other.write_text(json.dumps(rows()[1]) + "\n" + json.dumps(row) + "\n")
    recipe = write(tmp_path)
    held = {"path": str(other), "format": "entities"}
    done = shardtune("train", str(recipe), f"data.validation={json.dumps([held])}")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "other.jsonl:2: the relation live in stands in no training row; did you mean lives in?" in done.stderr


@pytest.mark.parametrize(
    ("sections", "message", "status"),
    [
        (
            {"task": {"kind": "joint_relations", "entities": ["person", "town"]}},
            "holds place, which is none of",
            3,
        ),
        ({"model": {"config": {"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2}}}, "is a gpt2", 2),
    ],
)
def test_what_cannot_be_learned_is_refused(tmp_path: Path, sections: dict[str, Any], message: str, status: int) -> None:
    done = shardtune("train", str(write(tmp_path, **sections)))
    assert done.returncode == status, done.stdout + done.stderr
    assert message in done.stderr
