"""`launch.kind: skypilot`: machines of a cloud, found and set up by SkyPilot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.launch import program
from trainer.launch.job import Job, Sent, Target
from trainer.launch.quoting import for_shell


def _facts(job: Job) -> Mapping[str, Any]:
    launch, sky = job.launch, job.launch.skypilot
    kind = job.fill(sky.accelerators, "launch.skypilot.accelerators") if job.gpus else None
    image = job.fill(launch.container.image if launch.container else None, "launch.container.image")
    resources = {
        "infra": sky.infra,
        "accelerators": None if kind is None else f"{kind}:{job.gpus}",
        "image_id": f"docker:{image}",
        "use_spot": sky.spot or None,
    }
    start = [*job.limit(), *job.module("trainer"), "train", job.recipe, *job.settings]
    secret = [
        f'{name}="$(cat -- {for_shell(file)})" && export {name} || exit 2\n'
        for name, file in launch.secrets.items()
        if file
    ]
    address = launch.address
    head = for_shell(address) if address else '"$(echo "$SKYPILOT_NODE_IPS" | head -n 1)"'
    return {
        "resources": {name: value for name, value in resources.items() if value is not None},
        "file_mounts": {one.target: one.source for one in launch.mounts},
        "asked": [name for name, file in launch.secrets.items() if not file],
        "script": "".join(secret) + f"exec {for_shell(start)} --node SKYPILOT_NODE_RANK --address {head}\n",
    }


def _hand_over(job: Job, manifest: Path) -> Sent:
    secrets = [word for name, file in job.launch.secrets.items() if not file for word in ("--secret", name)]
    said = program.run(["sky", "launch", "--yes", "--detach-run", "--cluster", job.name, *secrets, str(manifest)])
    return Sent(
        f"{said.strip()}\nFollow: sky logs {job.name}\nState:  sky queue {job.name}\n"
        f"Stop:   sky cancel {job.name} --all; sky down {job.name} gives the machines back"
    )


TARGET = Target(
    template="skypilot.yaml",
    syntax="yaml",
    no_use={
        "hosts": "SkyPilot makes the nodes",
        "exclude": "SkyPilot makes the nodes",
        "account": "it is what the cloud's credentials say",
        "modules": "the image holds what is needed",
    },
    program="sky",
    hand_over=_hand_over,
    facts=_facts,
    elsewhere=True,
)
