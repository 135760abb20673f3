"""What another trainer is measured by, and how it is told what to do."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench.made import MODEL

from trainer.bench import peer
from trainer.bench.measured import Ended
from trainer.config.load import recipe_of

TRAINS = """
import sys
import torch
from pathlib import Path
from probe import Probe

probe = Probe(Path(sys.argv[1]), vocabulary=50, pad=0)
model = torch.nn.Sequential(torch.nn.Embedding(50, 8), torch.nn.Linear(8, 50))
optimizer = torch.optim.AdamW(model.parameters())
for step in range(3):
    ids = torch.tensor([[1, 2, 3 + step, 0], [4, 5, 0, 0]])
    loss = torch.nn.functional.cross_entropy(model(ids).flatten(0, 1), ids.flatten())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(float(loss))
probe.close([])
"""


def content(**sections: Any) -> dict[str, Any]:
    given = {
        "model": {**MODEL, "dtype": "float32"},
        "data": {"train": [{"path": "rows.jsonl", "format": "instruction"}], "shuffle": False, "template": "chatml"},
        "schedule": {"kind": "constant", "warmup": 0.0},
        "batch": {"micro": 8, "global": 8},
        "launch": {"processes": 1},
    }
    return {name: {**given.get(name, {}), **sections.get(name, {})} for name in {*given, *sections}}


def test_the_probe_tells_the_steps_of_a_plain_loop(tmp_path: Path) -> None:
    script = tmp_path / "trains.py"
    script.write_text(TRAINS)
    words, environment = [sys.executable, str(script), str(tmp_path)], {"PYTHONPATH": str(peer.FOLDER)}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr

    told = peer.of_run(Ended("completed", None, 9.0, 0.0), recipe_of(content()), tmp_path)

    series = told["series"]
    assert (series["tokens"], series["positions"], series["step"]) == ([5] * 3, [8] * 3, [1, 2, 3])
    assert series["loss"] == pytest.approx([float(line) for line in done.stdout.splitlines()])
    assert all(seconds > 0 for seconds in series["seconds"])
    memory = told["memory_bytes"]
    assert memory["resident"] >= memory["imports"] > 100 * 2**20
    assert told["environment"]["packages"]["torch"]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({}, ""),
        ({"data": {"shuffle": True}}, "data.shuffle is True; the comparison is made for False"),
        ({"optimizer": {"weight_decay": 0.1}}, "optimizer.weight_decay is 0.1; the comparison is made for 0.0"),
        ({"launch": {"processes": 2}}, "launch.processes is 2; the comparison is made for 1"),
    ],
)
def test_work_that_is_not_compared_is_refused(tmp_path: Path, sections: dict[str, Any], message: str) -> None:
    recipe = recipe_of(content(**sections)).model_dump(mode="json", by_alias=True)
    recipe["model"]["name"] = "model"
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    done = subprocess.run(
        [sys.executable, "-c", "import work; print(work.read())", str(tmp_path / "recipe.json"), str(tmp_path)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(peer.FOLDER)},
        timeout=60,
    )
    assert done.returncode == (2 if message else 0), done.stderr
    assert message in done.stderr


def test_an_environment_that_is_not_made_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peer, "FOLDER", tmp_path)
    monkeypatch.setattr(peer, "ENVIRONMENTS", tmp_path)
    assert peer.missing("trl") == "it has no environment yet: python benchmarks/peers/make.py trl"
    assert "in a checkout of the sources" in str(peer.problem("trl"))


def test_rows_are_handed_on_as_conversations(tmp_path: Path) -> None:
    rows = [{"instruction": "Which?", "output": "This."}, {"instruction": "What?", "output": "That."}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = recipe_of(content(data={"train": [{"path": str(tmp_path / "rows.jsonl"), "format": "instruction"}]}))
    peer.write_work(recipe, tmp_path / "work.json")
    told = json.loads((tmp_path / "work.json").read_text())
    written = [json.loads(line) for line in Path(told["data"]["train"][0]["path"]).read_text().splitlines()]
    assert [[turn["content"] for turn in row["messages"]] for row in written] == [
        ["Which?", "This."],
        ["What?", "That."],
    ]
