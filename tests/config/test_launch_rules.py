from typing import Any

import a_recipe
import pytest

from trainer.config.launch_rules import LAUNCH_RULES
from trainer.errors import RecipeError

BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("processes_are_positive", {"processes": 0}, "launch.processes: 0 is less than one process; leave it at auto"),
    ("nodes_are_counted", {"nodes": 0}, "launch.nodes: 0 is less than one node; leave it at 1"),
    (
        "nodes_are_counted",
        {"kind": "torchrun", "nodes": {"min": 3, "max": 2}, "processes": 1},
        "launch.nodes: min 3 is more than max 2; exchange them",
    ),
    ("devices_are_counted", {"gpus": -1}, "launch.gpus: -1 is less than none; set it to 0 for none"),
    (
        "nodes_that_come_and_go_have_a_launcher",
        {"kind": "slurm", "nodes": {"min": 1, "max": 2}, "processes": 1},
        "launch.nodes: a range does not go with launch.kind slurm, which starts them all; name their number",
    ),
    (
        "processes_of_other_machines_are_named",
        {"kind": "slurm"},
        "launch.processes: auto counts the devices of this machine; say how many processes each node runs",
    ),
    ("processes_of_other_machines_are_named", {"nodes": 2}, "launch.processes: auto counts the devices"),
    (
        "secrets_are_named_alone",
        {"environment": {"WANDB_API_KEY": "x"}},
        "launch.environment.WANDB_API_KEY: looks like a secret, and a recipe is copied to many places; set "
        "launch.secrets: {WANDB_API_KEY: null}",
    ),
    (
        "enroot_is_slurms",
        {"kind": "mpi", "processes": 1, "container": {"image": "x", "runtime": "enroot"}},
        "launch.container.runtime: enroot needs Slurm, and launch.kind is mpi; take docker",
    ),
    (
        "an_array_is_slurms",
        {"slurm": {"array": [{"optimizer.lr": 1e-4}, {"output": "x"}]}},
        "launch.slurm.array.1: output is the same for all; the folders are numbered below output",
    ),
]


def test_every_rule_is_broken_here() -> None:
    assert {rule.__name__ for rule in LAUNCH_RULES} == {name for name, _, _ in BROKEN}


@pytest.mark.parametrize(("launch", "message"), [case[1:] for case in BROKEN])
def test_a_broken_rule_is_told_alone(launch: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        a_recipe.recipe(launch=launch)

    (problem,) = caught.value.problems
    assert str(problem).startswith(message)


@pytest.mark.parametrize(
    "launch",
    [
        {"kind": "torchrun", "nodes": {"min": 1, "max": 4}, "processes": 8},
        {"kind": "kubernetes", "kubernetes": {"job": "pytorchjob"}, "nodes": {"min": 1, "max": 4}, "processes": 8},
        {"environment": {"TOKENIZERS_PARALLELISM": "false", "NCCL_DEBUG": "INFO"}},
        {"secrets": {"HF_TOKEN": None, "KEY": "/run/secrets/key"}},
    ],
)
def test_what_goes_together_is_taken(launch: dict[str, Any]) -> None:
    a_recipe.recipe(launch=launch)


@pytest.mark.parametrize(
    ("written", "seconds"), [(90, 90), ("00:10:00", 600), ("12:00:00", 43_200), ("2-01:00:05", 176_405), (None, None)]
)
def test_a_time_limit_is_seconds(written: Any, seconds: int | None) -> None:
    assert a_recipe.recipe(launch={"time_limit": written}).launch.seconds == seconds
