"""Whole runs above frozen layers whose outputs are kept: the result is that of the whole model."""

import json
import os
from pathlib import Path
from typing import Any

import a_model
import pytest
import torch
from runs.command import metrics, shardtune
from runs.engines import ENGINES, each
from runs.test_classify_run import rows as classified
from runs.test_strategy_run import BERT, moved, recipe_of
from safetensors.torch import load_file

LAST = {"kind": "partial", "last": 1}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_model.save(tmp_path_factory.mktemp("base") / "llama", tied=False)


def run(base: Path, folder: Path, engine: str, strategy: dict[str, Any], **sections: Any) -> tuple[Path, str]:
    """The run folder, and what was said."""
    folder.mkdir()
    given = {"train": {"max_steps": 15}, "log": {"every": 1}, "optimizer": {"lr": 1e-2}, **ENGINES[engine], **sections}
    done = shardtune("train", str(recipe_of(base, folder, strategy=strategy, **given)))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run", done.stdout


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


@pytest.mark.parametrize("engine", each("torch", slow=("ddp", "zero2", "zero3")))
@pytest.mark.parametrize("packing", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_kept_states_give_the_bits_of_the_whole_model(base: Path, tmp_path: Path, engine: str, packing: bool) -> None:
    data = {"packing": packing, "shuffle": False}
    plain, _ = run(base, tmp_path / "plain", engine, LAST, data=data)
    kept, said = run(base, tmp_path / "kept", engine, {**LAST, "cache": "disk"}, data=data)

    assert "strategy.cache: what 1 frozen layers make is kept in disk" in said
    assert [event["loss"] for event in metrics(plain)] == [event["loss"] for event in metrics(kept)]
    assert moved(weights(plain), weights(kept)) == set()
    assert not list(kept.glob(".frozen*"))


@pytest.mark.slow
def test_other_layouts_of_rows_differ_by_rounding_alone(base: Path, tmp_path: Path) -> None:
    plain, _ = run(base, tmp_path / "plain", "torch", LAST)
    kept, _ = run(base, tmp_path / "kept", "torch", {**LAST, "cache": "memory"})

    ours, theirs = weights(kept), weights(plain)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-5


@pytest.mark.parametrize("engine", each(slow=("torch", "zero3")))
def test_each_phase_keeps_its_own(base: Path, tmp_path: Path, engine: str) -> None:
    strategy = {
        "kind": "phases",
        "phases": [{"last": 1, "steps": 6}, {"layers": [0, 0], "steps": 3}, {"last": 1}],
    }
    data = {"packing": False, "shuffle": False}
    plain, _ = run(base, tmp_path / "plain", engine, strategy, data=data)
    kept, said = run(base, tmp_path / "kept", engine, {**strategy, "cache": "memory"}, data=data)

    assert said.count("1 frozen layers make is kept in memory") == 2
    assert "strategy.cache: no layers rest below all that trains; nothing is kept." in said
    assert moved(weights(plain), weights(kept)) == set()


def dropping(folder: Path) -> dict[str, Any]:
    """Sections of a classifier whose layers drop much."""
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in classified()))
    return {
        "model": {"config": {**BERT, "hidden_dropout_prob": 0.5}, "tokenizer": {"vocab_size": 300}, "dtype": "float32"},
        "task": {"kind": "classify"},
        "data": {"train": [{"path": str(rows), "format": "text"}], "packing": False, "shuffle": False},
    }


@pytest.mark.slow
def test_dropout_rests_below_what_trains_alone(tmp_path: Path) -> None:
    sections = dropping(tmp_path)
    losses = []
    for cache in ("memory", "disk"):
        folder, said = run(tmp_path, tmp_path / cache, "torch", {**LAST, "cache": cache}, **sections)
        assert "strategy.cache: what 2 frozen layers make is kept" in said
        losses.append([event["loss"] for event in metrics(folder) if event["split"] == "train"])
    assert losses[0] == losses[1]
    # The layer that trains still drops.
    assert len(set(losses[0])) == len(losses[0])


@pytest.mark.slow
def test_without_room_a_run_goes_on_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = {**dropping(tmp_path), "train": {"max_steps": 3}}
    plain, _ = run(tmp_path, tmp_path / "plain", "torch", LAST, **sections)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    # A drive on which nothing is free: what the kernel tells of one, at the only place where it is asked.
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nreal = os.statvfs\n\n\ndef full(path):\n    told = list(real(path))\n    told[4] = 0\n"
        "    return os.statvfs_result(told)\n\n\nos.statvfs = full\n"
    )
    assert os.statvfs(tmp_path).f_bavail > 0

    kept, said = run(tmp_path, tmp_path / "kept", "torch", {**LAST, "cache": "disk"}, **sections)

    assert said.count("strategy.cache:") == 1
    assert "half of what is free is 0 MiB; nothing is kept." in said
    # Dropout is on everywhere again.
    assert [event["loss"] for event in metrics(plain)] == [event["loss"] for event in metrics(kept)]
