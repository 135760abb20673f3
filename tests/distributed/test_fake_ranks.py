"""Shares of ZeRO-3 on many ranks: as DeepSpeed makes them, and as the plan says."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "model_type": "llama",
    "hidden_size": 36,
    "intermediate_size": 100,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}
HALF_A_BILLION = {
    "model_type": "qwen2",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
}
SEVENTY_BILLION = {
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}


def recipe(folder: Path, config: dict[str, Any], vocabulary: int, nodes: int) -> Path:
    (folder / "rows.jsonl").write_text("\n".join(json.dumps({"text": "a b c"}) for _ in range(8 * nodes)))
    content = {
        "model": {"config": config, "tokenizer": {"vocab_size": vocabulary}, "dtype": "float32"},
        "data": {"train": [{"path": str(folder / "rows.jsonl"), "format": "text"}], "max_length": 32},
        "batch": {"micro": 1, "global": 8 * nodes},
        "engine": {"zero": 3},
        "launch": {"nodes": nodes, "processes": 8},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    return folder / "recipe.yaml"


def planned(path: Path) -> dict[str, int]:
    """Bytes of each kind that a device holds."""
    command = [sys.executable, "-m", "trainer", "plan", str(path), "--json"]
    said = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    return dict(said["memory"]["device"]["components"])


@pytest.mark.parametrize(
    ("config", "vocabulary"),
    [
        pytest.param(SMALL, 301, id="small"),
        pytest.param(HALF_A_BILLION, 151_936, id="0.5 B", marks=pytest.mark.slow),
    ],
)
def test_shares_of_64_ranks_are_those_of_the_plan(config: dict[str, Any], vocabulary: int, tmp_path: Path) -> None:
    path = recipe(tmp_path, config, vocabulary, nodes=8)
    ranks = {"RANK": "0", "WORLD_SIZE": "64", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "8", "DS_ACCELERATOR": "cpu"}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "PYTHONPATH": str(ROOT)}

    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "fake_ranks.py"), str(path)],
        env={**os.environ, **ranks, **place},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    held = json.loads(done.stdout.splitlines()[-1])
    assert planned(path) == {
        "weights": 4 * held["weights"],
        "gradients": 4 * held["gradients"],
        "optimizer": 4 * (held["copies"] + held["moments"]),
    }
    assert held["weights"] * 64 >= held["parameters"]


@pytest.mark.parametrize("nodes", [8, 128])
def test_a_70_b_model_is_shared_out_by_the_same_rule(nodes: int, tmp_path: Path) -> None:
    """Each parameter of transformers' model, rounded up to a whole share, as DeepSpeed was seen to do it above."""
    config = {key: value for key, value in SEVENTY_BILLION.items() if key != "model_type"}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **config, vocab_size=128_256))
    share = sum(-(-parameter.numel() // (8 * nodes)) for parameter in model.parameters())

    found = planned(recipe(tmp_path, SEVENTY_BILLION, 128_256, nodes))

    assert found == {"weights": 4 * share, "gradients": 4 * share, "optimizer": 12 * share}
