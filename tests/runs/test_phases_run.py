"""Whole runs through phases, by the real command; a killed one goes on in the phase that it was in."""

import shutil
from pathlib import Path
from typing import Any

import a_model
import pytest
from runs.command import metrics, read_json, shardtune
from runs.engines import ENGINES, each
from runs.test_resume import start, wait_for
from runs.test_strategy_run import moved, recipe_of
from safetensors.torch import load_file

WRITTEN = {
    "kind": "phases",
    "phases": [{"last": 1, "steps": 4}, {"layers": [0, 1], "steps": 20, "rate": 0.5}, {"train": ["re:.*"]}],
}
LISA = {"kind": "lisa", "layers": 1, "every": 4}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_model.save(tmp_path_factory.mktemp("base") / "llama", tied=False)


def recipe(base: Path, folder: Path, engine: str, strategy: dict[str, Any], **sections: Any) -> Path:
    folder.mkdir(exist_ok=True)
    given = {"train": {"max_steps": 30}, "checkpoint": {"every": 2, "keep": 99}, "log": {"every": 1}, **sections}
    return recipe_of(base, folder, strategy=strategy, optimizer={"lr": 1e-3}, **ENGINES[engine], **given)


def go_back(run: Path, step: int) -> None:
    """Leaves a run as it was when it had saved a step."""
    for place in (run / "checkpoints").glob("step-*"):
        if int(place.name.removeprefix("step-")) > step:
            shutil.rmtree(place)
    shutil.rmtree(run / "model")
    for place in (run / "summary.json", run / "checkpoints" / "best"):
        place.unlink(missing_ok=True)


@pytest.mark.parametrize("engine", each("torch", slow=("ddp", "zero2", "zero3")))
def test_each_phase_trains_what_it_says(base: Path, tmp_path: Path, engine: str) -> None:
    constant = {"kind": "constant", "warmup": 0}
    done = shardtune("train", str(recipe(base, tmp_path, engine, {"kind": "layerwise"}, schedule=constant)))
    assert done.returncode == 0, done.stdout + done.stderr

    said = [line.split(":")[0] for line in done.stdout.splitlines() if line.startswith("phase ")]
    assert said == [
        "phase 2 from step 8, layer 1",
        "phase 3 from step 15, layer 0",
        "phase 4 from step 23, embeddings",
    ]
    assert {event["lr"] for event in metrics(tmp_path / "run") if event["split"] == "train"} == {1e-3}
    state = read_json(tmp_path / "run" / "checkpoints" / "step-00000030" / "state.json")
    assert (state["phase"], state["phase_step"]) == (3, 23)
    after = load_file(tmp_path / "run" / "model" / "model.safetensors")
    before = load_file(base / "model.safetensors")
    assert moved(before, after) == set(before)


@pytest.mark.parametrize("strategy", [WRITTEN, LISA], ids=["phases", "lisa"])
@pytest.mark.parametrize("engine", each(slow=("torch", "zero2", "zero3")))
def test_a_killed_run_goes_on_in_its_phase(base: Path, tmp_path: Path, engine: str, strategy: dict[str, Any]) -> None:
    whole, killed = (recipe(base, tmp_path / name, engine, strategy) for name in ("whole", "killed"))
    assert shardtune("train", str(whole)).returncode == 0
    process = start(killed)
    wait_for(tmp_path / "killed" / "run" / "checkpoints" / "step-00000006", process)
    process.kill()
    process.communicate()
    again = shardtune("train", str(killed))
    assert again.returncode == 0, again.stdout + again.stderr
    assert 6 <= read_json(tmp_path / "killed" / "run" / "summary.json")["resumed_from"] < 30

    one, other = (tmp_path / name / "run" for name in ("whole", "killed"))
    assert [event["loss"] for event in metrics(one)] == [event["loss"] for event in metrics(other)]
    assert moved(*(load_file(run / "model" / "model.safetensors") for run in (one, other))) == set()


@pytest.mark.slow
def test_a_run_that_stopped_where_a_phase_ends_begins_the_next_one(base: Path, tmp_path: Path) -> None:
    strategy = {**WRITTEN, "restart": True}
    whole, cut = (recipe(base, tmp_path / name, "torch", strategy) for name in ("whole", "cut"))
    assert shardtune("train", str(whole)).returncode == 0
    run = tmp_path / "cut" / "run"
    assert shardtune("train", str(cut)).returncode == 0
    go_back(run, 4)
    done = shardtune("train", str(cut))
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_json(run / "summary.json")["resumed_from"] == 4
    assert "phase 2 from step 4" in done.stdout
    rates = [event["lr"] for event in metrics(run) if event["split"] == "train"]
    # Each phase begins with a warm-up of its own.
    assert rates[4] == pytest.approx(0.5e-3)
    assert rates[24] == pytest.approx(1e-3)
    assert (
        moved(*(load_file(one / "model" / "model.safetensors") for one in (tmp_path / "whole" / "run", run))) == set()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second", "goes_on"),
    [("zero2", "torch", True), ("ddp", "torch", True), ("torch", "zero2", False), ("zero3", "torch", False)],
)
def test_other_shards_go_on_in_a_later_phase_or_say_why_not(
    base: Path, tmp_path: Path, first: str, second: str, goes_on: bool
) -> None:
    constant = {"kind": "constant", "warmup": 0}
    assert shardtune("train", str(recipe(base, tmp_path, first, WRITTEN, schedule=constant))).returncode == 0
    run = tmp_path / "run"
    wanted = load_file(run / "model" / "model.safetensors")
    go_back(run, 8)
    done = shardtune("train", str(recipe(base, tmp_path, second, WRITTEN, schedule=constant)))

    if not goes_on:
        assert done.returncode == 5
        assert "is in a later phase of its strategy" in done.stderr
        return
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_json(run / "summary.json")["resumed_from"] == 8
    ours = load_file(run / "model" / "model.safetensors")
    assert max(float((ours[name] - wanted[name]).abs().max()) for name in wanted) < 1e-4


@pytest.mark.parametrize("engine", each("torch", slow=("zero2", "zero3")))
def test_the_best_step_may_be_in_an_earlier_phase(base: Path, tmp_path: Path, engine: str) -> None:
    phases = [{"last": 1, "steps": 4}, {"train": ["re:.*"], "rate": 1e4}]
    sections = {"evaluate": {"every": 2}, "train": {"max_steps": 8, "clip": None}}
    path = recipe(base, tmp_path, engine, {"kind": "phases", "phases": phases}, **sections)
    done = shardtune("train", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_json(tmp_path / "run" / "summary.json")["best"]["step"] == 4

    before, after = (load_file(folder / "model.safetensors") for folder in (base, tmp_path / "run" / "model"))
    assert moved(before, after) == {name for name in before if "layers.1." in name}


def test_phases_that_end_after_the_run_are_refused_before_it(base: Path, tmp_path: Path) -> None:
    strategy = {"kind": "layerwise", "steps": 10}
    done = shardtune("train", str(recipe(base, tmp_path, "torch", strategy)))

    assert done.returncode == 2
    assert "strategy.steps" in done.stderr
    assert "the last of 4 phases (embeddings) would begin after step 30, and the run has 30" in done.stderr
