"""ZeRO-3 with its state on a drive, by DeepSpeed's op for asynchronous reads and writes."""

import ctypes.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RECIPE: dict[str, Any] = {
    "model": {
        "config": {
            "model_type": "llama",
            "hidden_size": 384,
            "intermediate_size": 1024,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
            "tie_word_embeddings": False,
        },
        "tokenizer": {"vocab_size": 600},
        "dtype": "float32",
    },
    "data": {"train": [{"path": "builtin:stdlib", "format": "instruction"}], "max_length": 64},
    "batch": {"micro": 2, "global": 4},
    "train": {"max_steps": 4, "threads": 1},
    "engine": {"kind": "deepspeed", "zero": 3},
    "checkpoint": {"every": 2},
    "log": {"every": 1, "tensorboard": False},
    "launch": {"processes": 2},
}


def losses(folder: Path, name: str, drive: Path | None, **engine: Any) -> tuple[list[float], int]:
    """The losses of a run, and the most bytes that lay on the drive."""
    content = {**RECIPE, "engine": {**RECIPE["engine"], **engine}, "output": str(folder / name)}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    run = subprocess.Popen(
        [sys.executable, "-m", "trainer", "train", str(folder / f"{name}.yaml")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    most = 0
    while run.poll() is None:
        if drive is not None:
            most = max(most, sum(path.stat().st_size for path in drive.rglob("*") if path.is_file()))
        time.sleep(0.05)
    said = run.communicate()[0]
    assert run.returncode == 0, said
    rows = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row.get("split") == "train"], most


@pytest.mark.slow
@pytest.mark.skipif(ctypes.util.find_library("aio") is None, reason="needs libaio: apt install libaio-dev")
def test_a_run_from_a_drive_is_the_same_run(tmp_path: Path) -> None:
    """The op is compiled by the first run of a machine, for minutes."""
    drive = tmp_path / "drive"
    drive.mkdir()

    plain, _ = losses(tmp_path, "plain", None)
    found, most = losses(tmp_path, "nvme", drive, offload="nvme", nvme=str(drive))

    assert len(plain) == 4
    assert found == pytest.approx(plain, abs=1e-5)
    # Weights of the layers' matrices alone: smaller parameters stay where they are used.
    assert most > 4 * 2 * 1024 * 384


@pytest.mark.slow
def test_a_second_share_of_the_weights_changes_nothing(tmp_path: Path) -> None:
    assert losses(tmp_path, "hpz", None, hpz=2)[0] == pytest.approx(losses(tmp_path, "plain", None)[0], abs=1e-5)
