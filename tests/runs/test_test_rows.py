"""Rows that nothing is chosen by: the final model is measured on them once."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runs.command import metrics, read_json, shardtune, write_recipe
from runs.engines import ENGINES, each


@pytest.fixture(scope="module", params=each("torch", slow=("zero3",)))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run to its end."""
    folder = tmp_path_factory.mktemp(request.param)
    recipe = write_recipe(folder, **ENGINES[request.param], evaluate={"every": 2})
    content = json.loads(recipe.read_text())
    content["data"]["test"] = {"fraction": 0.25}
    content["checkpoint"] = {"every": 2}
    recipe.write_text(json.dumps(content))
    done = shardtune("train", str(recipe))
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "screen.txt").write_text(done.stdout)
    return folder / "run"


def rows_of_the_test(run: Path) -> list[dict[str, Any]]:
    from trainer.config.load import load
    from trainer.data import corpus, tokenizer

    recipe = load(run / "recipe.yaml")
    split = corpus.prepare(recipe, tokenizer.load(recipe, run), run).test
    assert split is not None
    return [{"tokens": split.tokens(row).tolist(), "learned": split.learned(row).tolist()} for row in range(len(split))]


def test_the_final_model_is_measured_once(finished: Path) -> None:
    [event] = metrics(finished, "test")
    summary = read_json(finished / "summary.json")
    assert event["step"] == summary["steps"] == 8
    assert summary["test"] == {"loss": event["loss"], "targets": event["targets"], **event["metrics"]}
    screen = (finished.parent / "screen.txt").read_text()
    assert "12 for the test" in screen and f"test: loss {event['loss']:.4f}" in screen


def test_another_program_finds_the_same_loss(finished: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(map(json.dumps, rows_of_the_test(finished))))
    stranger = Path(__file__).with_name("stranger.py")
    arguments = [sys.executable, str(stranger), str(finished / "model"), str(rows)]
    said = json.loads(subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=tmp_path).stdout)
    assert said["loss"] == pytest.approx(read_json(finished / "summary.json")["test"]["loss"], rel=1e-5)
