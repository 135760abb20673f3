"""Whole runs on a CUDA device: the losses of a CPU, memory by kind, and a resume after a kill."""

import math
import subprocess
import time
from pathlib import Path
from typing import Any

import a_model
import pytest
from runs.command import MODEL, command, metrics, read_json, shardtune, write_recipe

pytestmark = pytest.mark.gpu

WIDER = {"config": {**MODEL, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4}}
"""Heads of 16 values, which the kernels of the device take."""
TORCH = {"engine": {"kind": "torch"}}
RUNS: dict[str, dict[str, Any]] = {
    "full": TORCH,
    "padded": {**TORCH, "data": {"packing": False}},
    "checkpointing": {**TORCH, "train": {"checkpointing": "full"}},
    "in backward": {**TORCH, "optimizer": {"in_backward": True}},
    **{kind: {**TORCH, "optimizer": {"kind": kind}} for kind in ("adafactor", "lion", "sgd", "muon")},
    "galore": {**TORCH, "optimizer": {"kind": "galore", "galore": {"rank": 8, "every": 3}}},
    "paged": {**TORCH, "optimizer": {"paged": True}},
    "lisa": {**TORCH, "strategy": {"kind": "lisa", "layers": 1, "every": 3}},
    "kept outputs": {**TORCH, "strategy": {"kind": "partial", "last": 2, "cache": "memory"}},
    "ZeRO-0": {"engine": {"kind": "deepspeed", "zero": 0}},
    "ZeRO-1": {"engine": {"kind": "deepspeed", "zero": 1}},
    "ZeRO-2": {"engine": {"kind": "deepspeed", "zero": 2}},
    "ZeRO-3": {"engine": {"kind": "deepspeed", "zero": 3}},
    "ZeRO-3, offloaded": {"engine": {"kind": "deepspeed", "zero": 3, "offload": "cpu"}},
}


DTYPES = ("float32", "bfloat16")


def _recipe(folder: Path, sections: dict[str, Any], **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    merged: dict[str, Any] = {"model": {**WIDER, "tokenizer": {"vocab_size": 320}, "dtype": "float32"}}
    for section, keys in (*sections.items(), *more.items()):
        merged[section] = {**merged.get(section, {}), **keys}
    return write_recipe(folder, **merged)


def _losses(folder: Path, sections: dict[str, Any], **more: Any) -> list[float]:
    done = shardtune("train", str(_recipe(folder, sections, **more)), seconds=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return [event["loss"] for event in metrics(folder / "run")]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_has_the_losses_of_a_cpu(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = _losses(tmp_path / "device", RUNS[name])
    assert read_json(tmp_path / "device" / "run" / "summary.json")["memory_bytes"]["allocated"] > 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    assert device == pytest.approx(_losses(tmp_path / "cpu", RUNS[name]), rel=2e-3)
    assert read_json(tmp_path / "cpu" / "run" / "summary.json")["memory_bytes"]["allocated"] is None


LORA = {"kind": "lora", "r": 4}
ADAPTERS: dict[str, tuple[dict[str, Any], str, str]] = {
    **{f"{dtype}, {stored}": (LORA, dtype, stored) for dtype in DTYPES for stored in ("none", "nf4", "int8")},
    "dora": ({"kind": "dora", "r": 4}, "float32", "none"),
    "pissa": ({**LORA, "start": "pissa"}, "float32", "none"),
    "loftq": ({**LORA, "start": "loftq"}, "float32", "nf4"),
    "adalora": ({"kind": "adalora", "first": 4, "r": 2}, "float32", "none"),
    "ia3": ({"kind": "ia3"}, "float32", "none"),
    "vera": ({"kind": "vera", "r": 8}, "float32", "none"),
    "oft": ({"kind": "oft", "block": 8}, "float32", "none"),
    "prompt": ({"kind": "prompt", "tokens": 4}, "float32", "none"),
    "prefix": ({"kind": "prefix", "tokens": 4}, "float32", "none"),
    "p_tuning": ({"kind": "p_tuning", "tokens": 4, "hidden": 8}, "float32", "nf4"),
}
"""Methods, and how their base is stored."""


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_has_the_losses_of_a_cpu(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, dtype, quantization = ADAPTERS[name]
    base = str(a_model.save(tmp_path / "base"))
    sections = {**TORCH, "adapter": adapter, "optimizer": {"lr": 1e-2}}
    model = {"config": None, "tokenizer": None, "name": base, "dtype": dtype, "quantization": quantization}
    device = _losses(tmp_path / "device", sections, model=model)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    assert device == pytest.approx(_losses(tmp_path / "cpu", sections, model=model), rel=5e-3)


BFLOAT16 = {
    "over float32": {"train": {"precision": "bfloat16"}},
    "weights": {"model": {"dtype": "bfloat16"}},
    "kahan": {"model": {"dtype": "bfloat16"}, "optimizer": {"master": "kahan"}},
    "stochastic": {"model": {"dtype": "bfloat16"}, "optimizer": {"master": "stochastic"}},
    "8-bit moments": {"model": {"dtype": "bfloat16"}, "optimizer": {"kind": "adamw_8bit"}},
    "8-bit moments, paged": {"model": {"dtype": "bfloat16"}, "optimizer": {"kind": "adamw_8bit", "paged": True}},
    "compiled": {"train": {"precision": "bfloat16", "compile": True}},
    "ZeRO-3": {"model": {"dtype": "bfloat16"}, "engine": {"kind": "deepspeed", "zero": 3}},
}


@pytest.mark.parametrize("name", BFLOAT16)
def test_a_run_in_bfloat16_has_the_losses_of_float32(name: str, tmp_path: Path) -> None:
    exact = _losses(tmp_path / "float32", TORCH)

    assert _losses(tmp_path / "run", {**TORCH, **BFLOAT16[name]}) == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("engine", [{"kind": "torch"}, {"kind": "deepspeed", "zero": 3}])
def test_a_killed_run_goes_on_with_equal_losses(engine: dict[str, Any], tmp_path: Path) -> None:
    sections = {"engine": engine, "strategy": {"kind": "lisa", "layers": 1, "every": 4}}
    longer = {"train": {"max_steps": 40}}
    whole = _losses(tmp_path / "whole", sections, **longer)
    recipe, run = _recipe(tmp_path / "cut", sections, **longer), tmp_path / "cut" / "run"
    process = subprocess.Popen(command("train", str(recipe)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 200
    while not any((run / "checkpoints").glob("step-*")):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()

    done = shardtune("train", str(recipe))

    assert done.returncode == 0, done.stdout + done.stderr
    assert read_json(run / "summary.json")["resumed_from"] > 0
    events = {event["step"]: event["loss"] for event in metrics(run)}
    assert [events[step] for step in range(1, 41)] == pytest.approx(whole, rel=1e-3)


def test_what_no_longer_trains_takes_no_memory_of_the_device(tmp_path: Path) -> None:
    wide = {"config": {**WIDER["config"], "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 8}}
    told = {}
    for name, strategy in (("full", {"kind": "full"}), ("partial", {"kind": "partial", "last": 1})):
        _losses(tmp_path / name, {**TORCH, "model": wide, "strategy": strategy})
        told[name] = read_json(tmp_path / name / "run" / "summary.json")["memory_bytes"]["allocated"]
    layer = 4 * (512 * 512 + 512 * 256 + 512 * 512 // 2 + 512 * 512 // 2 + 3 * 512 * 1024)

    assert math.isfinite(told["partial"])
    assert told["full"] - told["partial"] > 7 * 3 * layer * 0.9
