"""A run over a stream, or with steps that tokens fill, goes on with the very next example after a kill."""

import json
from pathlib import Path
from typing import Any

import pytest
from runs.command import metrics, read_json, shardtune, write_recipe
from runs.test_resume import start, wait_for

from trainer.config.load import load
from trainer.data import corpus, steps, tokenizer

STEPS = 40
STREAM: dict[str, Any] = {"data": {"validation": None, "streaming": True, "shuffle_buffer": 20, "max_length": 64}}
TOKENS: dict[str, Any] = {"data": {"validation": None, "max_length": 64}, "batch": {"micro": 4, "global_tokens": 256}}
TOKENS["batch"]["global"] = None


def recipe_of(folder: Path, **sections: Any) -> Path:
    """A recipe over 48 rows that all differ in length, so that the tokens of a step tell which rows it holds."""
    lines = (json.dumps({"prompt": "b" * number, "completion": " a"}) for number in range(1, 49))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return write_recipe(folder, train={"max_steps": STEPS}, checkpoint={"every": 5, "keep": 3}, **sections)


def tokens_without_interruption(recipe: Path, folder: Path) -> list[int]:
    """Tokens of each step, read in this process."""
    settings = load(recipe)
    loaded = tokenizer.load(settings, folder)
    windows = steps.training(settings, loaded, corpus.prepare(settings, loaded, folder).train, folder, None)
    tokens = [sum(batch.tokens for batch in windows.window(step).batches) for step in range(STEPS)]
    windows.close()
    return tokens


@pytest.mark.parametrize(
    ("sections", "before", "after"),
    [
        pytest.param(STREAM, 1, 1, id="stream"),
        pytest.param(STREAM, 2, 1, id="stream-fewer-ranks", marks=pytest.mark.slow),
        pytest.param(STREAM, 1, 2, id="stream-more-ranks", marks=pytest.mark.slow),
        pytest.param(TOKENS, 2, 1, id="tokens-fewer-ranks", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_sees_the_examples_of_one_that_was_not(
    tmp_path: Path, sections: dict[str, Any], before: int, after: int
) -> None:
    recipe, run = recipe_of(tmp_path, **sections, launch={"processes": before}), tmp_path / "run"
    process = start(recipe)
    wait_for(run / "checkpoints" / "step-00000005", process)
    process.kill()
    process.communicate()

    again = shardtune("train", str(recipe), f"launch.processes={after}")

    assert again.returncode == 0, again.stdout + again.stderr
    assert 5 <= read_json(run / "summary.json")["resumed_from"] < STEPS
    found = [event["tokens"] for event in metrics(run)]
    assert found == tokens_without_interruption(recipe, tmp_path / "alone")


def test_steps_of_tokens_are_counted_before_the_first_and_the_end_of_the_run_is_known(tmp_path: Path) -> None:
    recipe, run = recipe_of(tmp_path, **TOKENS), tmp_path / "run"
    settings = ("train.epochs=2.5", "train.max_steps=null")

    done = shardtune("train", str(recipe), *settings)
    again = shardtune("train", str(recipe), *settings)

    assert done.returncode == 0, done.stdout + done.stderr
    plan = read_json(run / "plan.json")
    steps_of_epochs = plan["data"]["epoch_steps"]
    assert plan["steps"] == sum(steps_of_epochs[:2]) + -(-steps_of_epochs[2] // 2)
    tokens = [event["tokens"] for event in metrics(run)]
    assert len(tokens) == plan["steps"] == read_json(run / "summary.json")["steps"]
    assert max(tokens) <= 256
    assert metrics(run)[steps_of_epochs[0] - 1]["epoch"] == 1.0
    assert "holds this run, completed" in again.stdout
