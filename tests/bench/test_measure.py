import json
from pathlib import Path

import pytest
from bench.made import of, run, suite

from trainer.bench import measure
from trainer.bench.reading import Read
from trainer.errors import RunError, SuiteError


def _read(**settings: object) -> Read:
    """A suite without rows, so that nothing is run."""
    return Read(suite(**settings), {}, ())


def test_a_folder_of_another_suite_is_refused(tmp_path: Path) -> None:
    measure.measure(_read(), tmp_path / "out", "shardtune bench made", print)

    with pytest.raises(SuiteError) as caught:
        measure.measure(_read(threads=2), tmp_path / "out", "shardtune bench made", print)

    (problem,) = caught.value.problems
    assert problem.where == "--out"
    assert "out was begun with other settings (threads: 1 then, 2 now); name another folder" in problem.message
    measure.measure(_read(), tmp_path / "out", "shardtune bench made", print)


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    with pytest.raises(SuiteError, match="holds something else than the results of a suite"):
        measure.measure(_read(), tmp_path, "shardtune bench made", print)


def test_a_result_is_read_from_its_file_or_its_folder(tmp_path: Path) -> None:
    content = json.loads(json.dumps(of(suite(), [[run(1.0)], []])))
    (tmp_path / "result.json").write_text(json.dumps(content))

    assert measure.load(tmp_path) == measure.load(tmp_path / "result.json") == content


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON; name the result.json of a measured suite"),
        ('{"format": 0}', "is no result of this version of shardtune bench; measure it anew"),
    ],
)
def test_what_is_no_result_is_told(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "result.json").write_text(text)

    with pytest.raises(RunError, match=message):
        measure.load(tmp_path)
