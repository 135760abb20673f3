"""A run that is killed or stopped goes on by the same command, as if nothing had happened."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runs.command import command, metrics, read_json, shardtune, write_recipe
from safetensors.torch import load_file

STEPS = 40
ENGINES: dict[str, dict[str, Any]] = {
    "torch": {"engine": {"kind": "torch"}},
    "in_backward": {"engine": {"kind": "torch"}, "optimizer": {"in_backward": True}},
    "zero1": {"engine": {"kind": "deepspeed", "zero": 1}, "launch": {"processes": 2}},
    "zero2": {"engine": {"kind": "deepspeed", "zero": 2}, "launch": {"processes": 2}},
    "zero3": {"engine": {"kind": "deepspeed", "zero": 3}, "launch": {"processes": 2}},
}
QUICK = ["torch"]
PARAMETERS = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in ENGINES]


def recipe_of(folder: Path, engine: str) -> Path:
    folder.mkdir(exist_ok=True)
    model = {"config": {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
                        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
                        "attention_dropout": 0.1}}  # fmt: skip
    train = {"max_steps": STEPS}
    return write_recipe(folder, **ENGINES[engine], model=model, train=train, checkpoint={"every": 5, "keep": 3})


def start(recipe: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(command("train", str(recipe)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.01)


def assert_equal_runs(one: Path, other: Path) -> None:
    assert [event["loss"] for event in metrics(one)] == [event["loss"] for event in metrics(other)]
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (one, other))
    assert ours.keys() == theirs.keys()
    assert all(bool((ours[name] == theirs[name]).all()) for name in ours)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Uninterrupted runs by engine, made when first asked for."""
    return {"": tmp_path_factory.mktemp("whole")}


def uninterrupted(whole: dict[str, Path], engine: str) -> Path:
    if engine not in whole:
        recipe = recipe_of(whole[""] / engine, engine)
        done = shardtune("train", str(recipe))
        assert done.returncode == 0, done.stdout + done.stderr
        whole[engine] = whole[""] / engine / "run"
    return whole[engine]


@pytest.mark.parametrize("engine", PARAMETERS)
def test_a_killed_run_goes_on_bit_for_bit(whole: dict[str, Path], engine: str, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, engine)
    run = tmp_path / "run"
    process = start(recipe)
    wait_for(run / "checkpoints" / "step-00000005", process)
    process.kill()
    process.communicate()
    again = shardtune("train", str(recipe))
    assert again.returncode == 0, again.stdout + again.stderr
    assert 5 <= read_json(run / "summary.json")["resumed_from"] < STEPS
    assert_equal_runs(run, uninterrupted(whole, engine))


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_saves_and_leaves_with_75(whole: dict[str, Path], number: signal.Signals, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "torch")
    run = tmp_path / "run"
    process = start(recipe)
    wait_for(run / "checkpoints" / "step-00000005", process)
    os.kill(process.pid, number)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 75, said
    assert "the same command goes on" in said
    summary = read_json(run / "summary.json")
    assert summary["status"] == "stopped"
    assert (run / "checkpoints" / f"step-{summary['steps']:08d}").is_dir()
    assert shardtune("train", str(recipe)).returncode == 0
    assert_equal_runs(run, uninterrupted(whole, "torch"))


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "torch")
    run = tmp_path / "run"
    assert shardtune("train", str(recipe), "train.max_steps=12", "data.validation=null").returncode == 0
    newest = run / "checkpoints" / "step-00000012" / "torch.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    again = shardtune("train", str(recipe), "train.max_steps=14", "data.validation=null")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "step-00000012 is damaged" in again.stdout
    assert "torch.pt" in again.stdout
    assert read_json(run / "summary.json")["resumed_from"] == 10


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for one checkpoint, not for two."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1000k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("needs to mount a file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_ends_the_run_and_leaves_the_last_checkpoint_whole(small_disk: Path) -> None:
    from trainer.checkpoint.folder import newest_whole

    recipe = recipe_of(small_disk, "torch")
    done = shardtune("train", str(recipe), "data.validation=null", "checkpoint.every=2")
    assert done.returncode == 5, done.stdout + done.stderr
    assert "could not be written" in done.stderr
    assert "the checkpoint of step" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    newest, damaged = newest_whole(small_disk / "run")
    assert newest is not None
    assert damaged == []


def test_keep_prunes_and_the_best_survives(whole: dict[str, Path]) -> None:
    run = uninterrupted(whole, "torch")
    held = sorted(path.name for path in (run / "checkpoints").glob("step-*"))
    best = (run / "checkpoints" / "best").resolve().name
    assert best == f"step-{read_json(run / 'summary.json')['best']['step']:08d}"
    assert best in held
    assert held[-3:] == ["step-00000030", "step-00000035", "step-00000040"] or len(held) <= 4


def test_a_recipe_that_disagrees_is_refused_and_nothing_is_touched(whole: dict[str, Path]) -> None:
    run = uninterrupted(whole, "torch")
    before = (run / "recipe.yaml").read_bytes()
    refused = shardtune("train", str(run.parent / "recipe.yaml"), "optimizer.lr=0.5", "train.seed=3")
    assert refused.returncode == 2
    assert "optimizer.lr" in refused.stderr
    assert "train.seed" in refused.stderr
    assert (run / "recipe.yaml").read_bytes() == before
