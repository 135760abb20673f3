"""`train.checkpointing: auto` in a real run."""

from pathlib import Path

import pytest
from runs.command import metrics, read_json, shardtune, write_recipe


def losses(folder: Path, *settings: str) -> tuple[list[float], str, str]:
    folder.mkdir()
    recipe = write_recipe(folder, train={"max_steps": 2}, data={"validation": None})
    done = shardtune("train", str(recipe), *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    choices = {one["key"]: one for one in read_json(folder / "run" / "plan.json")["choices"]}
    choice = choices.get("train.checkpointing", {"value": None, "reason": ""})
    return [event["loss"] for event in metrics(folder / "run")], choice["value"], choice["reason"]


@pytest.mark.slow
def test_auto_takes_what_the_budget_allows_and_tells_why(tmp_path: Path) -> None:
    plain, named, _ = losses(tmp_path / "plain")
    assert named is None
    much, value, reason = losses(tmp_path / "much", "train.checkpointing=auto", "train.memory_budget=64GiB")
    assert value == "none"
    assert reason.endswith("75% of 64.0 GiB may be filled")
    little, value, reason = losses(tmp_path / "little", "train.checkpointing=auto", "train.memory_budget=64MiB")
    assert value == "full"
    assert "batch.micro" in reason
    assert plain == much == little


@pytest.mark.parametrize("wrong", ["train.memory_budget=6 bananas", "train.checkpointing={every: 0}"])
def test_a_wrong_value_is_told_with_its_key(tmp_path: Path, wrong: str) -> None:
    done = shardtune("plan", str(write_recipe(tmp_path)), wrong)
    assert done.returncode == 2
    assert wrong.partition("=")[0] in done.stderr
    assert "Traceback" not in done.stderr
