"""What the nodes of a run tell one another through its folder: that one has failed, and why."""

import time
from contextlib import suppress
from pathlib import Path

from trainer.errors import ShardtuneError, Stopped
from trainer.launch import outcome

FAILED = "failed"
"""Below the logs' folder; it is there only after a failure."""
LOOK_SECONDS = 2.0
WAIT_SECONDS = 3.0
"""For the word of other nodes, since a broken connection is seen before its cause is told."""


def tell(folder: Path, node: int, error: ShardtuneError, weight: int) -> None:
    """Leaves why a node failed, and how likely that followed from another failure: 0 the least."""
    path = folder / outcome.LOGS / FAILED / f"node-{node}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    outcome.replace_file(path, {**outcome.content_of(error), "weight": weight, "time": time.time()})


def told(folder: Path, but: int | None = None) -> list[tuple[int, float, ShardtuneError]]:
    """Weight, second and error of each node that failed, the likeliest cause first; `but` leaves one out."""
    found = []
    for path in (folder / outcome.LOGS / FAILED).glob("node-*.json"):
        content = outcome.content_at(path) if path.name != f"node-{but}.json" else {}
        if (error := outcome.error_of(content)) is not None:
            found.append((int(content["weight"]), float(content["time"]), error))
    return sorted(found, key=lambda one: one[:2])


def blame(folder: Path, node: int, nodes: int, error: ShardtuneError | None, weight: int) -> ShardtuneError | None:
    """Why the run failed, as far as this node can tell: its own error, or the one of another node that caused it."""
    if error is None or nodes == 1 or isinstance(error, Stopped):
        return error
    with suppress(OSError):  # a full disk: the scheduler has the status
        tell(folder, node, error, weight)
    deadline = time.monotonic() + (WAIT_SECONDS if weight else 0)
    while not (others := told(folder, but=node)) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS / 10)
    return others[0][2] if others and others[0][0] < weight else error
