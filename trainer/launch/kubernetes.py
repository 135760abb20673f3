"""`launch.kind: kubernetes`: an indexed Job with a headless Service, or what Kubeflow's operators run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.launch import program
from trainer.launch.job import Job, Sent, Target

_RECIPE = "/etc/shardtune"


def _facts(job: Job) -> Mapping[str, Any]:
    launch, cluster = job.launch, job.launch.kubernetes
    recipe = f"{_RECIPE}/recipe.yaml"
    if cluster.job == "job":
        address = f"{job.name}-0.{job.name}"
        node = ["--node", "JOB_COMPLETION_INDEX", "--address", address]
        command = [*job.module("trainer"), "train", recipe, *node]
    else:
        # A TrainJob has no field for a time limit or a folder.
        bare = cluster.job == "trainjob"
        place = ["env", f"--chdir={launch.folder}"] if bare and launch.folder else []
        limit = job.limit() if bare else []
        command = [*place, *limit, "torchrun", "-m", "trainer.worker", recipe]
    claims = list(dict.fromkeys(one.source for one in launch.mounts))
    return {
        "metadata": {"name": job.name, **({"namespace": cluster.namespace} if cluster.namespace else {})},
        "image": job.fill(launch.container.image if launch.container else None, "launch.container.image"),
        "command": command,
        "variables": _variables(job),
        "resources": _resources(job),
        "volumes": [
            {"name": "recipe", "configMap": {"name": job.name}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": cluster.shared_memory}},
            *({"name": f"mount-{claims.index(one)}", "persistentVolumeClaim": {"claimName": one}} for one in claims),
        ],
        "mounts": [
            {"name": "recipe", "mountPath": _RECIPE, "readOnly": True},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
            *(
                {"name": f"mount-{claims.index(one.source)}", "mountPath": one.target, "readOnly": one.read_only}
                for one in launch.mounts
            ),
        ],
        "affinity": _affinity(launch.exclude),
    }


def _variables(job: Job) -> list[dict[str, Any]]:
    launch = job.launch
    known = [{"name": name, "value": value} for name, value in launch.environment.items()]
    secret = launch.kubernetes.secret
    return [
        *known,
        *({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}} for name in launch.secrets),
    ]


def _resources(job: Job) -> dict[str, str]:
    cluster = job.launch.kubernetes
    asked = {"cpu": cluster.cpus, "memory": cluster.memory, cluster.resource: str(job.gpus) if job.gpus else None}
    return {name: value for name, value in asked.items() if value is not None}


def _affinity(exclude: tuple[str, ...]) -> dict[str, Any] | None:
    if not exclude:
        return None
    rule = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": list(exclude)}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def _hand_over(job: Job, manifest: Path) -> Sent:
    said = program.run(["kubectl", "apply", "--filename", str(manifest)])
    namespace = job.launch.kubernetes.namespace
    where = f" --namespace {namespace}" if namespace else ""
    selector = {
        "job": f"batch.kubernetes.io/job-name={job.name},batch.kubernetes.io/job-completion-index=0",
        "pytorchjob": f"training.kubeflow.org/job-name={job.name},training.kubeflow.org/replica-index=0",
        "trainjob": f"jobset.sigs.k8s.io/jobset-name={job.name}",
    }[job.launch.kubernetes.job]
    return Sent(
        f"{said.strip()}\nFollow: kubectl logs{where} --follow --selector {selector}\n"
        f"State:  kubectl get pods{where}\nStop:   kubectl delete --filename {manifest}"
    )


TARGET = Target(
    template="kubernetes.yaml",
    syntax="yaml",
    no_use={
        "hosts": "the cluster chooses the nodes",
        "modules": "the image holds what is needed",
        "address": "the first pod's name is the address",
    },
    program="kubectl",
    hand_over=_hand_over,
    facts=_facts,
    elsewhere=True,
)
