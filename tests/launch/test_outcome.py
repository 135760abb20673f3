"""What workers leave for their launcher."""

from pathlib import Path

import pytest

from trainer.errors import DataError, OutOfMemoryError, Problem, RecipeError, RunError, ShardtuneError, Stopped
from trainer.launch import outcome

PROBLEMS = [Problem("rows.jsonl:3", "is not JSON"), Problem("rows.jsonl:9", "has no field 'prompt'")]


@pytest.mark.parametrize(
    "error",
    [RecipeError(PROBLEMS), DataError(PROBLEMS), OutOfMemoryError("micro 4"), RunError("rank 1"), Stopped("step 7")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_back_as_it_was(tmp_path: Path, error: ShardtuneError) -> None:
    outcome.write(tmp_path, 1, error)
    read = outcome.read(tmp_path, 1)
    assert type(read) is type(error)
    assert str(read) == str(error)
    assert getattr(read, "problems", None) == getattr(error, "problems", None)


def test_a_worker_that_left_nothing_has_no_error(tmp_path: Path) -> None:
    assert outcome.read(tmp_path, 0) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"status": "x"}', '{"status": 3, "message": "", "problems": [1]}'])
def test_a_damaged_error_counts_as_none(tmp_path: Path, text: str) -> None:
    outcome.write(tmp_path, 0, RunError("x"))
    (tmp_path / "logs/rank-0.error.json").write_text(text)
    assert outcome.read(tmp_path, 0) is None


def test_errors_of_earlier_starts_are_cleared_and_logs_stay(tmp_path: Path) -> None:
    outcome.write(tmp_path, 0, RunError("x"))
    (tmp_path / "logs/rank-0.log").write_text("kept")
    outcome.clear(tmp_path)
    assert [file.name for file in (tmp_path / "logs").iterdir()] == ["rank-0.log"]
