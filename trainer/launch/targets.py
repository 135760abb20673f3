"""Every launcher by its kind."""

from trainer.launch import deepspeed, kubernetes, local, mpi, ray, skypilot, slurm, torchrun
from trainer.launch.job import Target

TARGETS: dict[str, Target] = {
    "local": local.TARGET,
    "torchrun": torchrun.TARGET,
    "deepspeed": deepspeed.TARGET,
    "slurm": slurm.TARGET,
    "mpi": mpi.TARGET,
    "kubernetes": kubernetes.TARGET,
    "ray": ray.TARGET,
    "skypilot": skypilot.TARGET,
}
