"""How a run really ended, for launchers that lose the exit status: `python -m trainer.launch.settle`.

    settle mark FOLDER                  what to hand over after the run, as text
    settle FOLDER STATUS MARK           says how the run ended, keeps it in summary.json, ends with its exit status

torchrun makes 1 of every exit status, and Slurm takes the highest of all nodes: what the run itself left counts.
"""

import sys
from pathlib import Path

from trainer.errors import EXIT_DONE, RunError, ShardtuneError, Stopped
from trainer.launch import lock, nodes, outcome
from trainer.launch.merged import merge


def main(arguments: list[str]) -> int:
    """Answers one of the two questions; the exit status."""
    if arguments[0] == "mark":
        print(_mark(Path(arguments[1])))
        return EXIT_DONE
    status, message = settle(Path(arguments[0]), int(arguments[1]), arguments[2])
    if message:
        print(message, file=sys.stderr)
    return status


def settle(folder: Path, status: int, mark: str) -> tuple[int, str]:
    """The exit status and the error that a run ended with; `status` is its launcher's, `mark` from before it."""
    merge(folder)
    fresh = _mark(folder) != mark
    said = outcome.summary(folder) if fresh else {}
    if said.get("status") == "completed" or (not fresh and status == EXIT_DONE):
        return EXIT_DONE, ""
    if said.get("status") == "stopped":
        return Stopped.status, str(said.get("error") or "stopped; start it again to go on")
    if "exit_status" in said:
        return int(said["exit_status"]), str(said.get("error"))
    error = _told(folder) or RunError(
        f"the launcher ended with exit status {status}, and no process left a word: see {folder / outcome.LOGS}"
    )
    # Where nodes may go, the run can be alive on the others.
    if folder.is_dir() and not lock.is_held(folder):
        outcome.write_summary(folder, error, None if fresh else outcome.summary_mark(folder))
    return error.status, str(error)


def _told(folder: Path) -> ShardtuneError | None:
    """The likeliest cause among what nodes and ranks left."""
    ranks = sorted(outcome.errors(folder).items(), key=lambda one: (one[1].status == RunError.status, one[0]))
    if ranks and ranks[0][1].status != RunError.status:
        return ranks[0][1]
    if failed := nodes.told(folder):
        return failed[0][2]
    return ranks[0][1] if ranks else None


def _mark(folder: Path) -> str:
    mark = outcome.summary_mark(folder)
    return "none" if mark is None else "-".join(map(str, mark))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
