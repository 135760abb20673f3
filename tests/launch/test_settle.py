import json
from pathlib import Path

import pytest

from trainer.errors import DataError, Problem, RunError
from trainer.launch import lock, nodes, outcome, settle


def _summary(folder: Path, **content: object) -> None:
    (folder / "summary.json").write_text(json.dumps(content))


def test_a_completed_run_is_done_whatever_its_launcher_says(tmp_path: Path) -> None:
    _summary(tmp_path, status="completed")

    assert settle.settle(tmp_path, 1, "none") == (0, "")


@pytest.mark.parametrize(
    ("content", "ended"),
    [
        ({"status": "stopped", "error": "saved at step 3", "exit_status": 75}, (75, "saved at step 3")),
        ({"status": "stopped"}, (75, "stopped; start it again to go on")),
        ({"status": "failed", "error": "no room", "exit_status": 4}, (4, "no room")),
    ],
)
def test_what_the_run_says_counts(tmp_path: Path, content: dict[str, object], ended: tuple[int, str]) -> None:
    _summary(tmp_path, **content)

    assert settle.settle(tmp_path, 1, "none") == ended


def test_an_earlier_summary_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    _summary(tmp_path, status="completed", steps=3)
    mark = settle._mark(tmp_path)

    status, said = settle.settle(tmp_path, 1, mark)

    assert status == 5 and said.startswith("the launcher ended with exit status 1, and no process left a word")
    kept = json.loads((tmp_path / "summary.json").read_text())
    assert (kept["status"], kept["exit_status"]) == ("failed", 5) and "steps" not in kept


def test_a_run_that_was_done_before_is_done(tmp_path: Path) -> None:
    _summary(tmp_path, status="completed")

    assert settle.settle(tmp_path, 0, settle._mark(tmp_path)) == (0, "")


def test_the_cause_that_a_rank_left_is_found(tmp_path: Path) -> None:
    outcome.write(tmp_path, 0, RunError("the connection broke"))
    outcome.write(tmp_path, 12, DataError([Problem("rows.jsonl:7", "is no JSON")]))
    _summary(tmp_path, status="failed", steps=2)

    assert settle.settle(tmp_path, 1, "none") == (3, "rows.jsonl:7: is no JSON")
    kept = json.loads((tmp_path / "summary.json").read_text())
    assert (kept["steps"], kept["exit_status"]) == (2, 3)


def test_a_node_knows_better_than_a_broken_connection(tmp_path: Path) -> None:
    outcome.write(tmp_path, 0, RunError("the connection broke"))
    nodes.tell(tmp_path, 1, RunError("rank 9 of 16 was killed by SIGKILL"), 1)

    assert settle.settle(tmp_path, 137, "none") == (5, "rank 9 of 16 was killed by SIGKILL")


def test_a_run_that_is_alive_elsewhere_keeps_its_summary(tmp_path: Path) -> None:
    with lock.hold(tmp_path):
        assert lock.is_held(tmp_path)
        status, _ = settle.settle(tmp_path, 137, "none")
        assert status == 5 and not (tmp_path / "summary.json").exists()
    assert not lock.is_held(tmp_path)
    settle.settle(tmp_path, 137, "none")
    assert (tmp_path / "summary.json").exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert settle.main(["mark", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "none\n"
    _summary(tmp_path, status="stopped", error="saved", exit_status=75)
    assert settle.main([str(tmp_path), "1", "none"]) == 75
    assert capsys.readouterr().err == "saved\n"
