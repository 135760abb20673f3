import json
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


def shown(cache: Path, seed: str = "0") -> bytes:
    """What another process reads."""
    environment = {"PYTHONHASHSEED": seed, "XDG_CACHE_HOME": str(cache)}
    return subprocess.run([sys.executable, "-c", SHOW], env=environment, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_other_processes_read_the_same_rows_also_where_no_cache_can_be_written(cache: Path, tmp_path: Path) -> None:
    # Another hash seed: nothing may depend on the order of a set.
    (tmp_path / "shardtune").write_text("in the way")
    assert shown(cache, "1") == shown(tmp_path, "2")


def test_the_rows_are_kept_for_other_processes(cache: Path) -> None:
    assert len(json.loads(shown(cache))) > 3000
    [kept] = (cache / "shardtune").iterdir()
    kept.write_text('[["kept", "row"]]')
    assert json.loads(shown(cache)) == [{"instruction": "kept", "output": "row"}]


def test_a_cache_that_was_cut_off_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(stdlib, "_parsed", lambda folder: [("parsed", "row")])
    for _ in range(2):
        stdlib.rows.cache_clear()
        assert stdlib.rows() == [{"instruction": "parsed", "output": "row"}]
        [kept] = (tmp_path / "shardtune").iterdir()
        assert json.loads(kept.read_text()) == [["parsed", "row"]]
        kept.write_text("[")
    stdlib.rows.cache_clear()


def test_a_python_without_source_files_says_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdlib.rows.cache_clear()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "python311.zip"))
    with pytest.raises(DataError, match="no source files of its standard library"):
        stdlib.rows()
    monkeypatch.undo()
    stdlib.rows.cache_clear()
