"""`launch.kind: ray`: a Ray Train job on a cluster that is there."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.launch import program
from trainer.launch.job import Job, Sent, Target


def _facts(job: Job) -> Mapping[str, Any]:
    launch = job.launch
    facts = {
        "nodes": launch.nodes,
        "gpus": job.gpus,
        "port": launch.meeting_port,
        "limit": job.limit(),
        "recipe": job.content,
        "secrets": launch.secrets,
    }
    variables = {"env_vars": launch.environment} if launch.environment else {}
    return {
        "facts": json.dumps(facts, ensure_ascii=False),
        "environment": json.dumps(variables, ensure_ascii=False),
    }


def _hand_over(job: Job, script: Path) -> Sent:
    said = program.run(["bash", str(script)])
    found = re.search(rf"{re.escape(job.name)}-\d+", said)
    name = found.group() if found else job.name
    at = f"--address {job.launch.ray.cluster}"
    return Sent(
        f"Submitted as {name}.\nFollow: ray job logs --follow {at} {name}\nState:  ray job status {at} {name}\n"
        f"Stop:   ray job stop {at} {name}"
    )


TARGET = Target(
    template="ray.sh",
    syntax="shell",
    no_use={
        "hosts": "Ray chooses the nodes",
        "exclude": "Ray chooses the nodes",
        "account": "the cluster is there",
        "modules": "the cluster's environment is what Ray was started in",
        "container": "the cluster's environment is what Ray was started in",
        "mounts": "the cluster's environment is what Ray was started in",
        "address": "Ray tells the first node's address",
    },
    program="ray",
    hand_over=_hand_over,
    facts=_facts,
    elsewhere=True,
)
