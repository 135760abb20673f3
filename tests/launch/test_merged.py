from pathlib import Path

from trainer.launch.merged import merge


def _log(folder: Path, rank: int, text: str) -> None:
    folder.joinpath("logs").mkdir(exist_ok=True)
    (folder / f"logs/rank-{rank}.log").write_text(text)


def test_lines_stand_once_with_the_ranks_that_wrote_them(tmp_path: Path) -> None:
    for rank in (0, 1, 2, 5, 10):
        _log(tmp_path, rank, f"--- started now by process 1\nthe same\nof {rank}\n")
    _log(tmp_path, 11, "--- started then\nearlier\n--- started now\n 10%\r 20%\r100%\nthe same\nthe same\n")
    (tmp_path / "logs/rank-0.error.json").write_text("{}")

    merge(tmp_path)

    assert (tmp_path / "logs/all.log").read_text().splitlines() == [
        "[0 to 2, 5, 10 to 11] the same",
        "[0] of 0",
        "[1] of 1",
        "[2] of 2",
        "[5] of 5",
        "[10] of 10",
        "[11] 100%",
    ]


def test_where_nothing_was_written_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()

    merge(tmp_path)

    assert (tmp_path / "logs/all.log").read_text() == ""
