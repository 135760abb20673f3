"""A process of a run, `python -m trainer.worker FOLDER`: rows are begun before torch is imported."""

import sys
import time
from pathlib import Path


def main() -> int:
    """Runs the run folder; the exit status."""
    began = time.monotonic()
    from trainer.data import ahead

    folder = Path(sys.argv[1])
    rows = ahead.start(folder)
    from trainer import run

    return run.main(folder, rows, began)


if __name__ == "__main__":
    sys.exit(main())
