"""Answers that a language model writes to validation rows while it trains, by the real command."""

from pathlib import Path
from typing import Any

import pytest
from runs.command import metrics, read_json, shardtune, write_recipe

ENGINES: list[dict[str, Any]] = [
    {"engine": {"kind": "torch"}, "launch": {"processes": 1}},
    {"engine": {"kind": "deepspeed", "zero": 3}, "launch": {"processes": 2}},
]


def run_on(folder: Path, sections: dict[str, Any]) -> Path:
    evaluate = {"every": 60, "answers": ["token_f1", "final_number"], "answer_tokens": 40, "samples": 2}
    batch, train = {"micro": 4, "global": 8}, {"max_steps": 60, "threads": 1}
    done = shardtune("train", str(write_recipe(folder, evaluate=evaluate, batch=batch, train=train, **sections)))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_on(tmp_path_factory.mktemp("alone"), ENGINES[0])


def gets_better(run: Path) -> bool:
    before, after = (event["metrics"] for event in metrics(run, "validation"))
    assert before.keys() == after.keys() == {"token_f1", "final_number", "perplexity"}
    return bool(after["token_f1"] > before["token_f1"] + 0.3)


def test_what_is_written_gets_better(alone: Path) -> None:
    assert gets_better(alone)


@pytest.mark.slow
def test_the_same_model_writes_the_same_on_every_engine(alone: Path, tmp_path: Path) -> None:
    shared = run_on(tmp_path, ENGINES[1])

    assert gets_better(shared)
    one, other = (metrics(run, "validation")[0]["metrics"] for run in (alone, shared))
    assert one == pytest.approx(other, rel=1e-6)
    one, other = (read_json(run / "samples.json")["before"] for run in (alone, shared))
    assert one == other
