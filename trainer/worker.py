"""A process of a run, `python -m trainer.worker FOLDER`: rows are begun before torch is imported.

Other launchers, such as torchrun, start `python -m trainer.worker RECIPE [section.key=value ...]`, and say by the usual
variables which rank it is.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from trainer.errors import ShardtuneError


def main() -> int:
    """Runs the run folder; the exit status."""
    began = time.monotonic()
    from trainer.data import ahead

    place, settings = Path(sys.argv[1]), sys.argv[2:]
    try:
        folder = place if place.is_dir() else _join(place, settings)
    except ShardtuneError as error:
        print(f"{error}", file=sys.stderr)
        return error.status
    rows = ahead.start(folder)
    from trainer import run

    return run.main(folder, rows, began)


def _join(recipe: Path, settings: Sequence[str]) -> Path:
    """The run folder that the processes of another launcher meet in."""
    from trainer import prepare

    return prepare.join(recipe, settings)


if __name__ == "__main__":
    sys.exit(main())
