"""A whole run with LoRA and a new token by the real command, and what another program makes of its adapter."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import a_model
import pytest
from runs.command import metrics, read_json, shardtune, write_recipe
from runs.test_train import validation_rows

pytestmark = pytest.mark.slow

ENGINES: dict[str, dict[str, Any]] = {
    "torch": {"engine": {"kind": "torch"}},
    "zero3": {"engine": {"kind": "deepspeed", "zero": 3}, "launch": {"processes": 2}},
}


@pytest.fixture(scope="module", params=["torch", "zero3"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a run that was stopped in the middle and went on."""
    folder = tmp_path_factory.mktemp(request.param)
    model = {
        "config": None,
        "tokenizer": None,
        "name": str(a_model.save(folder / "base")),
        "dtype": "float32",
        "add_tokens": ["plus"],
    }
    sections = {"model": model, "adapter": {"kind": "lora", "r": 4}, "evaluate": {"every": 4, "samples": 1}}
    recipe = write_recipe(folder, **ENGINES[request.param], **sections, optimizer={"lr": 2e-2})
    first = shardtune("train", str(recipe), "train.max_steps=5")
    assert first.returncode == 0, first.stdout + first.stderr
    again = shardtune("train", str(recipe))
    assert again.returncode == 0, again.stdout + again.stderr
    (folder / "screen.txt").write_text(again.stdout)
    return folder / "run"


def test_the_adapter_gives_another_program_the_loss_of_the_run(finished: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps(row) for row in validation_rows(finished)))
    stranger = Path(__file__).with_name("peft_stranger.py")
    arguments = [sys.executable, str(stranger), str(finished.parent / "base"), str(finished / "adapter"), str(rows)]

    said = json.loads(subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=tmp_path).stdout)

    best = read_json(finished / "summary.json")["best"]["loss"]
    assert said["loss"] == pytest.approx(best, rel=1e-5)
    assert best < metrics(finished, "validation")[0]["loss"] - 0.1


def test_the_folder_and_the_screen_name_the_adapter(finished: Path) -> None:
    screen = (finished.parent / "screen.txt").read_text()
    plan = read_json(finished / "plan.json")["parameters"]

    assert f"Adapter: {finished / 'adapter'}, for {finished.parent / 'base'}" in screen
    assert not (finished / "model").exists()
    assert read_json(finished / "summary.json")["resumed_from"] == 5
    assert 0 < plan["trainable"] < plan["total"]
    assert f"{plan['trainable']:,} of them train" in screen


def test_targets_that_fit_nothing_are_told_before_anything_starts(finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "other"
    recipe = finished.parent / "recipe.yaml"

    refused = shardtune("train", str(recipe), "adapter.targets=[q_porj]", f"output={output}")

    assert refused.returncode == 2
    assert "did you mean q_proj?" in refused.stderr
    assert not output.exists()


def test_dora_is_evaluated_and_saved_from_shared_weights(tmp_path: Path) -> None:
    model = {"config": None, "tokenizer": None, "name": str(a_model.save(tmp_path / "base")), "dtype": "float32"}
    sections = {"model": model, "adapter": {"kind": "dora", "r": 4}, "optimizer": {"lr": 2e-2}}

    done = shardtune("train", str(write_recipe(tmp_path, **ENGINES["zero3"], **sections)))

    assert done.returncode == 0, done.stdout + done.stderr
    summary = read_json(tmp_path / "run" / "summary.json")
    assert summary["adapter"]["difference"] <= 1e-5
    assert summary["best"]["loss"] < metrics(tmp_path / "run", "validation")[0]["loss"] - 0.1
