"""`launch.kind: deepspeed`: hosts of a hostfile, reached by DeepSpeed's launcher over pdsh, or over ssh."""

import re
from collections.abc import Mapping
from typing import Any

from trainer.errors import Problem, RecipeError
from trainer.launch import foreground
from trainer.launch.job import Job, Target

_SAFE = re.compile(r"[\w@%+=:,./-]+", re.ASCII)


def _facts(job: Job) -> Mapping[str, Any]:
    launch = job.launch
    ssh = launch.deepspeed.over == "ssh"
    passed = [f"{name}={value}" for name, value in launch.environment.items()]
    if not job.gpus:
        passed.append("DS_ACCELERATOR=cpu")
    if launch.nodes != 1 and not ssh:
        _refuse_what_is_not_quoted(job, passed)
    for name, file in launch.secrets.items():
        if launch.nodes != 1 and file is None:
            message = "is not handed on by ssh; name a file that holds the value, which every host can read"
            raise RecipeError([Problem(f"launch.secrets.{name}", message)])
    hosts = job.fill(launch.hosts, "launch.hosts") if launch.nodes != 1 or ssh else launch.hosts
    return {"ssh": ssh, "hosts": hosts, "passed": passed}


def _refuse_what_is_not_quoted(job: Job, passed: list[str]) -> None:
    """DeepSpeed hands words to the shells of other hosts as they are."""
    way_out = (
        "which DeepSpeed does not quote for other hosts; write it into the recipe, or set launch.deepspeed.over: ssh"
    )
    words = {"the recipe's path": [job.recipe], "a setting": job.settings, "launch.environment": passed}
    found = [
        Problem("launch.deepspeed.over", f"{what} holds {word!r}, {way_out}")
        for what, held in {**words, "the folder": [job.folder]}.items()
        for word in held
        if not _SAFE.fullmatch(word)
    ]
    launch = job.launch
    if launch.secrets:
        found.append(Problem("launch.secrets", "would stand in the process lists of the hosts with pdsh; " + _SSH))
    found += [
        Problem(f"launch.{key}", f"does not reach the other hosts with pdsh; {_SSH}")
        for key in ("modules", "container", "mounts")
        if getattr(launch, key)
    ]
    if found:
        raise RecipeError(found)


_SSH = "set launch.deepspeed.over: ssh"

TARGET = Target(
    template="deepspeed.sh",
    syntax="shell",
    no_use={"account": "ssh asks nobody for nodes"},
    program="bash",
    hand_over=foreground.hand_over,
    facts=_facts,
)
