"""What a new user gets wrong: one message with the way out, the documented status, no traceback, nothing left."""

import json
import socket
from pathlib import Path

import pytest
from runs.command import shardtune, write_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "broken.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": nope}\n')
    (tmp_path / "nofield.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
    (tmp_path / "long.jsonl").write_text((json.dumps({"prompt": "word " * 200, "completion": "x"}) + "\n") * 20)
    (tmp_path / "no_config").mkdir()
    return write_recipe(tmp_path)


CASES = {
    "no such recipe": (["missing.yaml"], 2, ["missing.yaml", "no such file"]),
    "no such file": (["RECIPE", "data.train.0.path=DIR/nope.jsonl"], 3, ["nope.jsonl: no such file"]),
    "empty file": (["RECIPE", "data.train.0.path=DIR/empty.jsonl"], 3, ["empty.jsonl: is empty"]),
    "not JSON": (["RECIPE", "data.train.0.path=DIR/broken.jsonl"], 3, ["broken.jsonl:2: is not JSON"]),
    "no field": (
        ["RECIPE", "data.train.0.path=DIR/nofield.jsonl"],
        3,
        ["nofield.jsonl:1: has no completion", "fields"],
    ),
    "no config": (
        ["RECIPE", "model.config=null", "model.tokenizer=null", "model.name=DIR/no_config"],
        2,
        ["model.name", "config.json"],
    ),
    "not a number": (["RECIPE", "optimizer.lr=fast"], 2, ["optimizer.lr: 'fast' is not a number"]),
    "misspelt section": (["RECIPE", "optimiser.lr=1"], 2, ["optimiser: no such key; did you mean optimizer?"]),
    "indivisible batch": (
        ["RECIPE", "data.packing=false", "batch.global=10", "launch.processes=3"],
        2,
        ["batch.global: 10", "it can be 12"],
    ),
    "zero without deepspeed": (["RECIPE", "engine.kind=torch", "engine.zero=3"], 2, ["engine.zero: 3 needs DeepSpeed"]),
    "misspelt deepspeed": (
        ["RECIPE", "engine.kind=deepspeed", "engine.deepspeed={zero_optimisation: {stage: 2}}"],
        2,
        ["zero_optimisation", "did you mean zero_optimization?"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_before_anything_starts(recipe: Path, name: str) -> None:
    arguments, status, said = CASES[name]
    given = [one.replace("RECIPE", str(recipe)).replace("DIR", str(recipe.parent)) for one in arguments]
    done = shardtune("train", *given)
    assert done.returncode == status, done.stdout + done.stderr
    assert all(word in done.stderr for word in said), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (recipe.parent / "run").exists()


def test_a_port_in_use_is_named(recipe: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = shardtune("train", str(recipe), f"launch.port={port}")
    assert done.returncode == 2
    assert f"launch.port: {port} is in use" in done.stderr


@pytest.mark.parametrize(
    ("too_long", "said"), [("drop", "all rows are longer than 64 tokens"), ("cut", "leave nothing to learn in any row")]
)
def test_rows_that_cannot_be_learned_from_end_the_run_in_one_message(recipe: Path, too_long: str, said: str) -> None:
    rows = f"data.train.0.path={recipe.parent / 'long.jsonl'}"
    done = shardtune("train", str(recipe), rows, f"data.too_long={too_long}", "launch.processes=2")
    assert done.returncode == 3, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
