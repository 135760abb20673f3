"""The loss curve that other trainers agree on to 1e-6: `pytest tests/runs/test_curve.py --curve FOLDER`.

FOLDER holds `model/`, a Llama of 62 M parameters, and `data/train.jsonl`, 2,000 rows of messages; HF Trainer, TRL,
ms-swift and torchtune were run on them, 8 rows a step in file order, AdamW at 1e-4, clip 1.
"""

from pathlib import Path
from typing import Any

import pytest
from runs.command import metrics, shardtune, write_recipe

CURVE = [10.48331, 9.91830, 9.69875, 9.49062, 9.66277]


@pytest.mark.parametrize(
    ("engine", "processes"),
    [({"kind": "torch"}, 1), ({"kind": "torch"}, 2), ({"kind": "deepspeed", "zero": 2}, 2)],
    ids=["torch-1", "torch-2", "zero2-2"],
)
def test_the_first_five_losses(request: pytest.FixtureRequest, tmp_path: Path, engine: Any, processes: int) -> None:
    folder = request.config.getoption("--curve")
    if folder is None:
        pytest.skip("needs --curve FOLDER")
    recipe = write_recipe(
        tmp_path,
        model={"name": str(Path(folder) / "model"), "config": None, "tokenizer": None},
        data={
            "train": [{"path": str(Path(folder) / "data" / "train.jsonl"), "format": "chat"}],
            "validation": None,
            "max_length": 1024,
            "shuffle": False,
        },
        optimizer={"lr": 1e-4},
        batch={"micro": 8, "global": 8},
        train={"max_steps": 5},
        engine=engine,
        launch={"processes": processes},
    )
    done = shardtune("train", str(recipe), seconds=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [event["loss"] for event in metrics(tmp_path / "run")] == pytest.approx(CURVE, abs=1e-4)
