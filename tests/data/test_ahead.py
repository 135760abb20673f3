import json
import os
import signal
from pathlib import Path

import pytest
from runs.command import write_recipe

from trainer import ranks
from trainer.config.load import dump, load
from trainer.data import ahead
from trainer.errors import DataError


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "cores", lambda: 2)


def run_folder(folder: Path, **sections: object) -> Path:
    recipe = load(write_recipe(folder, **sections))
    (folder / "run").mkdir()
    (folder / "run" / "recipe.yaml").write_text(dump(recipe))
    return folder / "run"


def test_another_process_leaves_the_tokens_where_rank_0_looks(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    rows = ahead.start(run)
    assert rows is not None
    rows.finish()
    content = json.loads((run / "data" / "chosen" / "content.json").read_text())
    assert content["manifest"]["train_rows"] == 38


def test_a_users_mistake_is_raised_as_what_it_is(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n' * 20)
    rows = ahead.start(run)
    assert rows is not None
    with pytest.raises(DataError, match=r"rows\.jsonl:1"):
        rows.finish()


def test_a_process_that_is_lost_is_no_failure(tmp_path: Path) -> None:
    rows = ahead.start(run_folder(tmp_path))
    assert rows is not None
    os.kill(rows._process.pid, signal.SIGKILL)
    rows.finish()


def test_none_is_started_without_a_core_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "cores", lambda: 1)
    assert ahead.start(tmp_path) is None
