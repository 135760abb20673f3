"""`shardtune data` on real files."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
from runs.command import shardtune, write_recipe

from trainer.report.data_report import Report


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_recipe(tmp_path)


def test_the_terminal_and_the_page_tell_the_counts_and_mark_what_is_learned(recipe: Path, tmp_path: Path) -> None:
    done = shardtune("data", str(recipe), "--rows", "1", "--html", str(tmp_path / "page.html"))

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    # 48 rows, a fifth of them held out
    assert [line.split() for line in lines[1:4]] == [["Splits"], ["train", "validation"], ["rows", "38", "10"]]
    assert any(line.startswith("What is 0 plus 0?« 0 plus 0 is 0, as 0 plus 0.<|im_end|>»") for line in lines)
    assert "\x1b" not in done.stdout
    page = (tmp_path / "page.html").read_text()
    assert "<td>train</td><td>38</td>" in page and "<td>validation</td><td>10</td>" in page
    assert not (tmp_path / "run").exists()


def test_rows_that_cannot_be_trained_on_are_told_of_and_refused(recipe: Path) -> None:
    done = shardtune("data", str(recipe), "data.max_length=24", "--json")

    assert done.returncode == 3
    assert "data.max_length: 24 cuts every training row before its end; the shortest has " in done.stderr
    told = json.loads(done.stdout)
    assert set(told) == {field.name for field in fields(Report)}
    assert (told["max_length"], told["splits"]["train"]["rows"], len(told["rows"])) == (24, 38, 3)
    assert [problem["where"] for problem in told["problems"]] == ["data.max_length"]
