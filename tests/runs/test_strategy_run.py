"""Whole runs where a part of a model trains, by the real command; what rests is what it was, bit by bit."""

import json
import shutil
from pathlib import Path
from typing import Any

import a_model
import pytest
import torch
from runs.command import read_json, shardtune, write_recipe
from runs.engines import ENGINES, each
from runs.test_classify_run import rows as classified
from runs.test_seq2seq_run import T5
from runs.test_seq2seq_run import rows as translated
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

BERT = {"model_type": "bert", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3} | {
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """The names of the tensors that differ."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def recipe_of(base: Path, folder: Path, **sections: Any) -> Path:
    model = {"name": str(base), "config": None, "tokenizer": None, "dtype": "float32"}
    return write_recipe(folder, **{"model": model, "train": {"max_steps": 4}, **sections})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_model.save(tmp_path_factory.mktemp("base") / "llama", tied=False)


@pytest.mark.parametrize("engine", each("torch", slow=("ddp", "zero2", "zero3")))
def test_the_last_layer_trains_alone(base: Path, tmp_path: Path, engine: str) -> None:
    strategy = {"kind": "partial", "last": 1}
    path = recipe_of(base, tmp_path, strategy=strategy, **ENGINES[engine], optimizer={"lr": 1e-3, "weight_decay": 0.1})
    done = shardtune("train", str(path))
    assert done.returncode == 0, done.stdout + done.stderr

    before, after = (load_file(folder / "model.safetensors") for folder in (base, tmp_path / "run" / "model"))
    names = moved(before, after)
    assert names == {name for name in before if "layers.1." in name}
    plan = read_json(tmp_path / "run" / "plan.json")["parameters"]
    assert plan["trainable"] == sum(before[name].numel() for name in names)
    assert f"{plan['trainable']:,} of {plan['total']:,} parameters train" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "zero2", "zero3"])
def test_a_run_of_a_part_goes_on_as_if_it_had_not_stopped(base: Path, tmp_path: Path, engine: str) -> None:
    found = []
    for stops in (False, True):
        folder = tmp_path / str(stops)
        folder.mkdir()
        sections = {"strategy": {"kind": "partial", "last": 1}, **ENGINES[engine], "checkpoint": {"every": 2}}
        path = recipe_of(base, folder, **sections, optimizer={"layer_decay": 0.5, "lr": 1e-3})
        if stops:
            assert shardtune("train", str(path)).returncode == 0
            for name in ("model", "summary.json", "checkpoints/step-00000004"):
                place = folder / "run" / name
                shutil.rmtree(place) if place.is_dir() else place.unlink()
            (folder / "run" / "checkpoints" / "best").unlink(missing_ok=True)
        done = shardtune("train", str(path))
        assert done.returncode == 0, done.stdout + done.stderr
        found.append(load_file(folder / "run" / "model" / "model.safetensors"))
    assert moved(*found) == set()


@pytest.mark.slow
def test_one_half_of_an_encoder_decoder_trains_alone(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in translated()))
    fields = {"prompt": "en", "completion": "de"}
    data = {"train": [{"path": str(rows), "format": "completion", "fields": fields}]}
    model = {"config": T5, "tokenizer": {"vocab_size": 320}, "dtype": "float32"}
    sections: dict[str, Any] = {"task": {"kind": "seq2seq"}, "data": data, "model": model, "engine": {"kind": "torch"}}
    first = write_recipe(tmp_path, **sections, train={"max_steps": 1})
    assert shardtune("train", str(first), f"output={tmp_path / 'first'}").returncode == 0
    sections["model"] = {"name": str(tmp_path / "first" / "model"), "config": None, "tokenizer": None}
    second = write_recipe(tmp_path, **sections, train={"max_steps": 2}, strategy={"kind": "encoder_only"})
    done = shardtune("train", str(second))
    assert done.returncode == 0, done.stdout + done.stderr

    before, after = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("first", "run"))
    assert moved(before, after) == {name for name in before if name.startswith("encoder.")}


def test_a_head_and_the_last_layers_have_rates_of_their_own(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in classified()))
    done = shardtune(
        "train",
        str(
            write_recipe(
                tmp_path,
                model={"config": BERT, "tokenizer": {"vocab_size": 320}, "dtype": "float32"},
                task={"kind": "classify"},
                data={"train": [{"path": str(rows), "format": "text"}]},
                strategy={"kind": "discriminative", "last": 2, "decay": 0.5},
                optimizer={"lr": 1e-3, "rates": {"head": 2.0}},
                schedule={"kind": "constant", "warmup": 0.0},
                train={"max_steps": 3},
                log={"every": 1, "tensorboard": True},
                engine={"kind": "torch"},
            )
        ),
    )
    assert done.returncode == 0, done.stdout + done.stderr

    assert "layer 1" in done.stdout
    curves = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    rates = {tag: curves.Scalars(tag)[-1].value for tag in curves.Tags()["scalars"] if tag.startswith("learning_rate/")}
    expected = {"head": 2e-3, "others": 1e-3, "layer 2": 5e-4, "layer 1": 2.5e-4}
    assert {tag.removeprefix("learning_rate/"): value for tag, value in rates.items()} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (
            {"kind": "partial", "last": 9},
            "line 1): 9 layers are more than the model has",
        ),
        ({"kind": "encoder_only"}, "line 1): encoder_only is for encoder-decoders such as T5"),
        ({"kind": "partial", "train": ["re:.*q_porj.*"]}, "'re:.*q_porj.*' fits no parameter"),
    ],
)
def test_what_the_model_lacks_is_told_before_anything_else(
    base: Path, tmp_path: Path, strategy: dict[str, Any], message: str
) -> None:
    done = shardtune("train", str(recipe_of(base, tmp_path, strategy=strategy)))

    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert not (tmp_path / "run").exists()
