import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from trainer.data import stdlib
from trainer.errors import DataError

SHOW = "import json; from trainer.data import stdlib; print(json.dumps(stdlib.rows()))"


def test_there_are_several_thousand_different_rows_with_short_questions() -> None:
    rows = stdlib.rows()
    assert len(rows) > 3000
    assert len({(row["instruction"], row["output"]) for row in rows}) == len(rows)
    assert all(row["instruction"] and row["output"] for row in rows)
    assert sum(len(row["instruction"].split()) for row in rows) / len(rows) < 20


def test_a_function_is_asked_for_by_module_and_signature() -> None:
    question = "What does this function of `textwrap` do?\n\ndef dedent(text)"
    [row] = [row for row in stdlib.rows() if row["instruction"] == question]
    assert row["output"] == "Remove any common leading whitespace from every line in `text`."


def test_another_process_reads_the_same_rows() -> None:
    # Another hash seed: nothing may depend on the order of a set.
    shown = {
        subprocess.run(
            [sys.executable, "-c", SHOW], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(shown) == 1


def test_a_python_without_source_files_says_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdlib.rows.cache_clear()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "python311.zip"))
    with pytest.raises(DataError, match="no source files of its standard library"):
        stdlib.rows()
    monkeypatch.undo()
    stdlib.rows.cache_clear()
