"""What must hold between the keys of `launch`."""

import re
from collections.abc import Callable

from trainer.config.launch import Nodes
from trainer.config.recipe import Recipe
from trainer.errors import Problem

_SECRET = re.compile(r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|API_?KEY|KEY)(_|$)", re.IGNORECASE)


def processes_are_positive(recipe: Recipe) -> Problem | None:
    """`launch.processes` counts processes."""
    if recipe.launch.processes != "auto" and recipe.launch.processes < 1:
        return Problem("launch.processes", f"{recipe.launch.processes} is less than one process; leave it at auto")
    return None


def nodes_are_counted(recipe: Recipe) -> Problem | None:
    """A run has at least one node, and not fewer at most than at least."""
    launch = recipe.launch
    if launch.least_nodes < 1:
        return Problem("launch.nodes", f"{launch.least_nodes} is less than one node; leave it at 1")
    if launch.least_nodes > launch.most_nodes:
        return Problem("launch.nodes", f"min {launch.least_nodes} is more than max {launch.most_nodes}; exchange them")
    return None


def devices_are_counted(recipe: Recipe) -> Problem | None:
    """`launch.gpus` counts devices."""
    if recipe.launch.gpus != "auto" and recipe.launch.gpus < 0:
        return Problem(
            "launch.gpus", f"{recipe.launch.gpus} is less than none; set it to 0 for none, or leave it at auto"
        )
    return None


def nodes_that_come_and_go_have_a_launcher(recipe: Recipe) -> Problem | None:
    """Only torchrun and Kubeflow's operator start a run anew with other nodes."""
    launch = recipe.launch
    if not isinstance(launch.nodes, Nodes) or launch.kind == "torchrun":
        return None
    if launch.kind == "kubernetes" and launch.kubernetes.job == "pytorchjob":
        return None
    way_out = "name their number, or set launch.kind: torchrun, or kubernetes with kubernetes.job: pytorchjob"
    return Problem(
        "launch.nodes", f"a range does not go with launch.kind {launch.kind}, which starts them all; {way_out}"
    )


def processes_of_other_machines_are_named(recipe: Recipe) -> Problem | None:
    """What a node has can be counted there alone."""
    launch = recipe.launch
    if launch.processes != "auto" or (launch.kind == "local" and launch.most_nodes <= 1):
        return None
    return Problem(
        "launch.processes", "auto counts the devices of this machine; say how many processes each node runs, such as 8"
    )


def secrets_are_named_alone(recipe: Recipe) -> Problem | None:
    """What stands in a recipe stands in logs, in the run folder and in rendered files."""
    found = [name for name in recipe.launch.environment if _SECRET.search(name)]
    if not found:
        return None
    way_out = (
        f"set launch.secrets: {{{found[0]}: null}} to take it from the environment, or name the file that holds it"
    )
    return Problem(
        f"launch.environment.{found[0]}", f"looks like a secret, and a recipe is copied to many places; {way_out}"
    )


def enroot_is_slurms(recipe: Recipe) -> Problem | None:
    """Images of enroot are started by srun."""
    launch = recipe.launch
    if launch.container and launch.container.runtime == "enroot" and launch.kind not in ("slurm", "local"):
        return Problem("launch.container.runtime", f"enroot needs Slurm, and launch.kind is {launch.kind}; take docker")
    return None


def an_array_is_slurms(recipe: Recipe) -> Problem | None:
    """Each run of an array has a folder of its own."""
    launch = recipe.launch
    for number, item in enumerate(launch.slurm.array):
        for key in item:
            if key == "output" or key.split(".")[0] == "launch":
                message = f"{key} is the same for all; the folders are numbered below output. Leave it out"
                return Problem(f"launch.slurm.array.{number}", message)
    return None


LAUNCH_RULES: tuple[Callable[[Recipe], Problem | None], ...] = (
    processes_are_positive,
    nodes_are_counted,
    devices_are_counted,
    nodes_that_come_and_go_have_a_launcher,
    processes_of_other_machines_are_named,
    secrets_are_named_alone,
    enroot_is_slurms,
    an_array_is_slurms,
)
