"""A whole run by the real command: the folder that it leaves, and the model that another program loads."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs.command import metrics, read_json, shardtune, write_recipe
from runs.engines import ENGINES, each


@pytest.fixture(scope="module", params=each("torch", "zero2"))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a run to its end; no compiler and no ninja can be found from it."""
    folder = tmp_path_factory.mktemp(request.param)
    log = {"every": 1, "tensorboard": True, "profile": {"steps": [2, 3]}}
    recipe = write_recipe(folder, **ENGINES[request.param], log=log, evaluate={"every": 4, "samples": 1})
    done = shardtune("train", str(recipe), path="/nonexistent")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "screen.txt").write_text(done.stdout)
    return folder / "run"


def validation_rows(run: Path) -> list[dict[str, Any]]:
    """The held-out rows as the run saw them."""
    from trainer.config.load import load
    from trainer.data import corpus, tokenizer

    recipe = load(run / "recipe.yaml")
    split = corpus.prepare(recipe, tokenizer.load(recipe, run), run).validation
    assert split is not None
    return [{"tokens": split.tokens(row).tolist(), "learned": split.learned(row).tolist()} for row in range(len(split))]


def test_the_model_gives_another_program_the_loss_of_the_run(finished: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps(row) for row in validation_rows(finished)))
    stranger = Path(__file__).with_name("stranger.py")
    arguments = [sys.executable, str(stranger), str(finished / "model"), str(rows)]
    said = json.loads(subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=tmp_path).stdout)
    best = read_json(finished / "summary.json")["best"]["loss"]
    assert said["loss"] == pytest.approx(best, rel=1e-5)
    assert said["dtype"] == "torch.float32"


def test_validation_improves_and_the_summary_tells_it(finished: Path) -> None:
    summary = read_json(finished / "summary.json")
    values = [event["loss"] for event in metrics(finished, "validation")]
    assert summary["status"] == "completed"
    assert summary["steps"] == 8
    assert summary["best"]["loss"] == min(values) < values[0] == summary["validation"]["first"]
    assert summary["tokens_per_second"] > 0
    assert summary["peak_memory_bytes"] == summary["memory_bytes"]["resident"] > summary["memory_bytes"]["imports"]
    assert summary["memory_bytes"]["imports"] > 2**20
    assert summary["startup_seconds"] < summary["wall_seconds"]


def test_every_step_stands_in_the_metrics_once(finished: Path) -> None:
    events = metrics(finished)
    assert [event["step"] for event in events] == list(range(1, 9))
    assert all(np.isfinite([event["loss"], event["grad_norm"], event["tokens_per_second"]]).all() for event in events)
    assert all(event["positions"] == event["tokens"] > event["targets"] > 0 for event in events)  # packed rows
    assert all(event["tokens"] < event["squares"] < event["tokens"] ** 2 for event in events)
    assert all(event["processor_seconds"] > 0 for event in events)


def test_the_folder_holds_what_the_contract_names(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert {
        "recipe.yaml",
        "plan.json",
        "environment.json",
        "metrics.jsonl",
        "summary.json",
        "model",
        "checkpoints",
    } <= names
    assert (finished / "ds_config.json").exists() == (
        read_json(finished / "plan.json")["engine"]["kind"] == "deepspeed"
    )
    assert (finished / "checkpoints" / "best" / "state.json").exists()


def test_each_rank_leaves_a_trace_of_the_profiled_steps(finished: Path) -> None:
    ranks = range(2 if (finished / "ds_config.json").exists() else 1)
    assert {path.name for path in (finished / "profile").iterdir()} == {f"trace-rank-{rank}.json.gz" for rank in ranks}
    with gzip.open(finished / "profile" / "trace-rank-0.json.gz", "rt") as file:
        names = {event.get("name") for event in json.load(file)["traceEvents"]}
    assert {"step 2", "step 3"} <= names
    assert not {"step 1", "step 4"} & names
    screen = (finished.parent / "screen.txt").read_text()
    assert f"profile of steps 2 to 3: {finished / 'profile' / 'trace-rank-0.json.gz'}" in screen


def test_tensorboard_reads_the_curves_and_the_recipe(finished: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    wanted = {"loss", "learning_rate", "gradient_norm", "tokens_per_second", "peak_memory_bytes"}
    assert {f"train/{name}" for name in wanted} | {"validation/loss"} <= set(events.Tags()["scalars"])
    assert "recipe/text_summary" in events.Tags()["tensors"]


def test_the_screen_ends_with_the_model_the_curves_and_a_sample(finished: Path) -> None:
    screen = (finished.parent / "screen.txt").read_text()
    end = screen[screen.index("Model: " + str(finished)) :]
    assert "tensorboard --logdir" in end
    assert all(word in end for word in ("Prompt:", "Before:", "After:", "The row:"))


def test_without_a_compiler_deepspeed_runs_on_torchs_adam_and_says_so(finished: Path) -> None:
    screen = (finished.parent / "screen.txt").read_text()
    if read_json(finished / "plan.json")["engine"]["kind"] == "deepspeed":
        assert "no C++ compiler is found" in screen
        assert "torch's own fused adamw over gloo" in screen


def test_a_completed_run_is_told_and_not_repeated(finished: Path) -> None:
    before = (finished / "metrics.jsonl").read_bytes()
    again = shardtune("train", str(finished.parent / "recipe.yaml"))
    assert again.returncode == 0
    assert "completed" in again.stdout
    assert (finished / "metrics.jsonl").read_bytes() == before
