from pathlib import Path

import pytest

from trainer.checkpoint.whole import written_whole
from trainer.errors import RunError


@pytest.mark.parametrize("error", [RunError("it is not what was trained"), OSError(28, "No space left on device")])
def test_what_fails_leaves_the_former_folder_and_nothing_else(tmp_path: Path, error: Exception) -> None:
    folder = tmp_path / "adapter"
    with written_whole(folder) as unfinished:
        (unfinished / "file").write_text("former")

    with pytest.raises(RunError), written_whole(folder) as unfinished:
        (unfinished / "file").write_text("wrong")
        raise error

    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    assert (folder / "file").read_text() == "former"
