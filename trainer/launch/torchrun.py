"""`launch.kind: torchrun`: torch's own launcher, the same command on every node."""

from collections.abc import Mapping
from typing import Any

from trainer.config.launch import Nodes
from trainer.launch import foreground
from trainer.launch.job import Job, Target


def _facts(job: Job) -> Mapping[str, Any]:
    launch = job.launch
    alone, elastic = launch.nodes == 1, isinstance(launch.nodes, Nodes)
    static = launch.torchrun.rendezvous == "static" and not alone
    return {
        "static": static,
        "nodes": f"{launch.least_nodes}:{launch.most_nodes}" if elastic else f"{launch.nodes}",
        "restarts": launch.torchrun.restarts if elastic else 0,
        "address": launch.meeting_address if alone else job.fill(launch.address, "launch.address"),
        "port": launch.port or 0 if alone else launch.meeting_port,
        "backend": "shardtune",
        "runner": "torch.distributed.run" if static else "trainer.rendezvous",
    }


TARGET = Target(
    template="torchrun.sh",
    syntax="shell",
    no_use={
        "hosts": "torchrun is started on each node",
        "exclude": "torchrun is started on each node",
        "account": "torchrun asks nobody for nodes",
    },
    program="bash",
    hand_over=foreground.hand_over,
    facts=_facts,
)
