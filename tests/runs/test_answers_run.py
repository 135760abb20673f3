"""Answers that a language model writes to validation rows while it trains, by the real command."""

from pathlib import Path
from typing import Any

import pytest
from runs.command import metrics, read_json, shardtune, write_recipe

ENGINES: list[dict[str, Any]] = [
    {"engine": {"kind": "torch"}, "launch": {"processes": 1}},
    {"engine": {"kind": "deepspeed", "zero": 3}, "launch": {"processes": 2}},
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    found = []
    for index, sections in enumerate(ENGINES):
        folder = tmp_path_factory.mktemp(str(index))
        evaluate = {"every": 60, "answers": ["token_f1", "final_number"], "answer_tokens": 40, "samples": 2}
        batch, train = {"micro": 4, "global": 8}, {"max_steps": 60, "threads": 1}
        done = shardtune("train", str(write_recipe(folder, evaluate=evaluate, batch=batch, train=train, **sections)))
        assert done.returncode == 0, done.stdout + done.stderr
        found.append(folder / "run")
    return found


def test_what_is_written_gets_better(runs: list[Path]) -> None:
    for run in runs:
        before, after = (event["metrics"] for event in metrics(run, "validation"))
        assert before.keys() == after.keys() == {"token_f1", "final_number", "perplexity"}
        assert after["token_f1"] > before["token_f1"] + 0.3


def test_the_same_model_writes_the_same_on_every_engine(runs: list[Path]) -> None:
    one, other = (metrics(run, "validation")[0]["metrics"] for run in runs)
    assert one == pytest.approx(other, rel=1e-6)
    one, other = (read_json(run / "samples.json")["before"] for run in runs)
    assert one == other
