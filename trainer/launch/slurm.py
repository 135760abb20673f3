"""`launch.kind: slurm`: a batch job with one task on each node."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.launch import program
from trainer.launch.job import Job, Sent, Target


def _facts(job: Job) -> Mapping[str, Any]:
    launch, slurm = job.launch, job.launch.slurm
    options = {
        "account": launch.account,
        "partition": slurm.partition,
        "qos": slurm.qos,
        "constraint": slurm.constraint,
        "reservation": slurm.reservation,
        "mem": slurm.memory,
        "exclude": ",".join(launch.exclude) or None,
        "time": None if launch.seconds is None else _clock(launch.seconds),
        "array": f"0-{len(job.parts) - 1}" if len(job.parts) > 1 else None,
    }
    box = _box(job)
    settle = job.module("trainer.launch.settle")
    return {
        "slurm": slurm,
        "options": {name: value for name, value in options.items() if value is not None},
        "log": _log(job, "%A_%a" if len(job.parts) > 1 else "%j"),
        "box": box,
        "settle": ["srun", "--nodes=1", "--ntasks=1", *box, *settle] if box else [*job.inside(), *settle],
    }


def _log(job: Job, number: str) -> str:
    return f"{job.name}-{number}.log"


def _clock(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours // 24}-{hours % 24:02}:{minutes:02}:{rest:02}"


def _box(job: Job) -> list[str]:
    """Srun's options for a container of enroot, by the plugin pyxis."""
    box = job.launch.container
    if box is None or box.runtime != "enroot":
        return []
    mounts = [f"{one.source}:{one.target}{':ro' if one.read_only else ''}" for one in job.launch.mounts]
    listed = [f"--container-mounts={','.join(mounts)}"] if mounts else []
    return [f"--container-image={box.image}", *listed, f"--container-workdir={job.folder}"]


def _hand_over(job: Job, script: Path) -> Sent:
    said = program.run(["sbatch", "--parsable", str(script)])
    number = re.match(r"\d+", said.strip())
    job_id = number.group() if number else said.strip()
    log = _log(job, job_id + ("_0" if len(job.parts) > 1 else ""))
    return Sent(
        f"Submitted as job {job_id}.\nFollow: tail -F {log}\nState:  squeue --job {job_id}\nStop:   scancel {job_id}"
    )


TARGET = Target(
    template="slurm.sbatch",
    syntax="shell",
    no_use={"hosts": "Slurm chooses the nodes"},
    program="sbatch",
    hand_over=_hand_over,
    facts=_facts,
)
