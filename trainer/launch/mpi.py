"""`launch.kind: mpi`: one process on each node, from Open MPI's mpirun."""

from collections.abc import Mapping
from typing import Any

from trainer.launch import foreground
from trainer.launch.job import Job, Target


def _facts(job: Job) -> Mapping[str, Any]:
    launch = job.launch
    alone = launch.nodes == 1
    return {
        "hosts": launch.hosts if alone else job.fill(launch.hosts, "launch.hosts"),
        "address": launch.meeting_address if alone else job.fill(launch.address, "launch.address"),
    }


TARGET = Target(
    template="mpi.sh",
    syntax="shell",
    no_use={"account": "mpirun asks nobody for nodes", "exclude": "mpirun takes the hosts of the file"},
    program="mpirun",
    hand_over=foreground.hand_over,
    facts=_facts,
)
