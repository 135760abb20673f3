"""Whole runs of LoRA on a base in 4 and 8 bits, by the real command."""

import json
from pathlib import Path
from typing import Any

import a_model
import pytest
import torch
from runs.command import metrics, read_json, shardtune, write_recipe
from runs.engines import ENGINES
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

KINDS = {
    "nf4": {"quantization": "nf4"},
    "double": {"quantization": "nf4", "double_quantization": True},
    "int8": {"quantization": "int8"},
}
PAIRS = [pytest.param(engine, kind, marks=pytest.mark.slow) for engine in ENGINES for kind in KINDS]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_model.save(tmp_path_factory.mktemp("base") / "llama", tied=False)


def recipe_of(folder: Path, base: Path, engine: str, kind: str) -> Path:
    folder.mkdir()
    model = {"config": None, "tokenizer": None, "name": str(base), "dtype": "float32", **KINDS[kind]}
    adapter = {"kind": "lora", "r": 4}
    return write_recipe(
        folder, model=model, adapter=adapter, optimizer={"lr": 2e-2}, checkpoint={"every": 4}, **ENGINES[engine]
    )


def run(recipe: Path, *settings: str) -> str:
    done = shardtune("train", str(recipe), *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("engine", "kind"), PAIRS)
def test_it_learns_goes_on_and_is_found_again(tmp_path: Path, base: Path, engine: str, kind: str) -> None:
    recipe, cut = (recipe_of(tmp_path / name, base, engine, kind) for name in ("whole", "cut"))
    run(recipe)
    run(cut, "train.max_steps=4")
    run(cut)
    whole, resumed = tmp_path / "whole" / "run", tmp_path / "cut" / "run"

    # It learns, after an evaluation too.
    losses = [event["loss"] for event in metrics(whole, "validation")]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] - 0.3
    # What is resumed has the weights of what is not.
    assert read_json(resumed / "summary.json")["resumed_from"] == 4
    one, two = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (whole, resumed))
    assert one.keys() == two.keys() and len(one) == 28
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    assert all(bool(tensor.abs().max() > 0) for tensor in one.values())
    # Another process read the adapter, and said the same.
    told = read_json(whole / "summary.json")["adapter"]
    assert told["tensors"] == 28 and told["zeros"] == 0 and told["difference"] <= 1e-5
    # No checkpoint holds the base.
    newest = next((whole / "checkpoints").glob("step-*"))
    size = sum(file.stat().st_size for file in newest.rglob("*") if file.is_file())
    assert size < 3 * 12 * sum(tensor.numel() for tensor in one.values()) + 200_000
    # A new process measures what the run measured.
    measured = shardtune("evaluate", str(whole), "--split", "validation", "--json")
    assert measured.returncode == 0, measured.stderr
    assert json.loads(measured.stdout)["metrics"]["loss"] == pytest.approx(
        read_json(whole / "summary.json")["best"]["loss"], rel=1e-4
    )


def test_a_quantized_base_alone_is_refused(tmp_path: Path, base: Path) -> None:
    recipe = recipe_of(tmp_path / "run", base, "torch", "nf4")

    refused: Any = shardtune("train", str(recipe), "adapter={kind: none}")

    assert refused.returncode == 2
    assert "weights in nf4 do not train; set adapter.kind: lora, or quantization to none" in refused.stderr


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that was saved in 4 bits."""
    folder = tmp_path_factory.mktemp("stored")
    plain = a_model.save(folder / "plain", tied=False)
    told = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype="float32")
    model = AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32, quantization_config=told)
    model.save_pretrained(folder / "llama")
    AutoTokenizer.from_pretrained(plain).save_pretrained(folder / "llama")
    return folder / "llama"


@pytest.mark.slow
def test_a_base_that_was_saved_in_4_bits_trains_and_is_merged(tmp_path: Path, stored: Path) -> None:
    recipe = recipe_of(tmp_path / "own", stored, "torch", "nf4")
    run(recipe)
    folder = tmp_path / "own" / "run"

    losses = [event["loss"] for event in metrics(folder, "validation")]
    assert losses[-1] < losses[0] - 0.3
    assert read_json(folder / "summary.json")["adapter"]["difference"] <= 1e-5
    merged = shardtune("export", str(folder), "--to", "merged")
    assert merged.returncode == 0, merged.stderr
    found = AutoModelForCausalLM.from_pretrained(folder / "merged")
    assert {weight.dtype for weight in found.parameters()} == {torch.float32}
    difference = float(merged.stdout.split("Its outputs differ by ")[1].split()[0])
    assert difference <= 1e-5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("model.quantization=none",), "model.quantization: is none, and {base} was saved in nf4; set it to nf4"),
        (("model.quantization=int8",), "model.quantization: is int8, and {base} was saved in nf4; set it to nf4"),
        (("model.double_quantization=true",), "{base} was saved without it; set it to false"),
        (("adapter.start=loftq",), "adapter.start: loftq looks at whole weights, and {base} was saved in nf4"),
    ],
)
def test_a_recipe_that_says_otherwise_is_told(
    tmp_path: Path, stored: Path, settings: tuple[str, ...], message: str
) -> None:
    recipe = recipe_of(tmp_path / "own", stored, "torch", "nf4")

    done = shardtune("train", str(recipe), *settings)

    assert done.returncode == 2
    assert message.format(base=stored) in done.stderr
