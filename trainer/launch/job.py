"""What a launcher has to start, as its template sees it."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trainer import ranks
from trainer.config.launch import Launch
from trainer.config.load import dump
from trainer.config.recipe import Recipe
from trainer.config.yaml_file import write_inline

FOLDER = "launch"
"""Of the run folder: what was rendered for it."""
_NAME_LENGTH = 40
KILL_AFTER = 330
"""Seconds that a run has to save after its time limit: the supervisor gives its processes 300."""
_OF_LAUNCHERS = (
    "SLURM_NODEID",
    "OMPI_COMM_WORLD_RANK",
    "PMIX_RANK",
    "PMI_RANK",
    "NODE_RANK",
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE",
    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT",
)
"""Variables that launchers set; Docker hands on only those that it is told of, and leaves out what is not set."""


@dataclass(frozen=True)
class Part:
    """One run of a job array, or the only one."""

    output: str
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """A recipe on its way to a launcher."""

    launch: Launch
    recipe: str
    """The recipe's file."""
    content: str
    """The recipe as YAML, with its settings."""
    parts: tuple[Part, ...]
    folder: str
    """The folder that relative paths count from."""
    python: str
    open: list[str] = field(default_factory=list)
    """Keys that only the user can tell; filled while the template is rendered."""

    @property
    def name(self) -> str:
        """What schedulers call it: a DNS label made of the run folder."""
        text = re.sub(r"[^a-z0-9]+", "-", self.parts[0].output.lower()).strip("-")[-_NAME_LENGTH:].strip("-")
        return text if text[:1].isalpha() else f"run-{text}".rstrip("-")

    @property
    def gpus(self) -> int:
        """Devices of each node."""
        if self.launch.gpus != "auto":
            return self.launch.gpus
        # Only a run that stays on this machine may leave its processes open.
        return ranks.accelerators() if self.launch.processes == "auto" else self.launch.processes

    @property
    def processes(self) -> int:
        """Processes of each node."""
        assert self.launch.processes != "auto", "it is refused before"
        return self.launch.processes

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings of the only run."""
        return self.parts[0].settings

    @property
    def output(self) -> str:
        """The folder of the only run."""
        return self.parts[0].output

    def fill(self, value: Any, key: str) -> Any:
        """A value, or where there is none a mark in its place that a reader cannot miss."""
        if value is None or value == "":
            if key not in self.open:
                self.open.append(key)
            return f"FILL-IN:{key}"
        return value

    def module(self, name: str) -> list[str]:
        """The words that run a module of this package on a node."""
        checkout = self.python == sys.executable and Path(__file__).resolve().parents[2] == Path(self.folder).resolve()
        return [self.python, *([] if checkout else ["-P"]), "-m", name]

    def train(self, *, limited: bool = True) -> list[str]:
        """The words that start the part of a node; its number and the address come after."""
        limit = self.limit() if limited else []
        return [*limit, *self.inside(), *self.module("trainer"), "train", self.recipe, *self.settings]

    def limit(self) -> list[str]:
        """The words before a command that end it in time, where its launcher knows no time limit."""
        if self.launch.seconds is None:
            return []
        return [
            "timeout",
            "--foreground",
            "--preserve-status",
            "--signal=TERM",
            f"--kill-after={KILL_AFTER}",
            f"{self.launch.seconds}",
        ]

    def inside(self) -> list[str]:
        """The words before a command that run it in the container; enroot's are options of srun."""
        box = self.launch.container
        if box is None or box.runtime == "enroot":
            return []
        mounts = [f"{one.source}:{one.target}{':ro' if one.read_only else ''}" for one in self.launch.mounts]
        if box.runtime == "apptainer":
            device = ["--nv"] if self.gpus else []
            binds = [word for mount in mounts for word in ("--bind", mount)]
            return ["apptainer", "exec", *device, *binds, "--pwd", self.folder, box.image]
        device = ["--gpus", "all"] if self.gpus else []
        passed = [word for name in (*self.variables, *_OF_LAUNCHERS) for word in ("--env", name)]
        volumes = [word for mount in mounts for word in ("--volume", mount)]
        shares = ["--rm", "--init", "--network", "host", "--ipc", "host"]
        return ["docker", "run", *shares, *device, *passed, *volumes, "--workdir", self.folder, box.image]

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that processes need."""
        return (*self.launch.environment, *self.launch.secrets)


@dataclass(frozen=True)
class Sent:
    """What became of a job that was handed over."""

    told: str
    """How to follow it and to stop it."""
    status: int = 0


@dataclass(frozen=True)
class Target:
    """A launcher: what it renders, and how that is handed over."""

    template: str
    """Its file in launchers/."""
    syntax: Literal["shell", "yaml"]
    no_use: Mapping[str, str]
    """Keys of `launch` that it has no use for, with the reason."""
    program: str
    """What hands it over; it has to be on this machine."""
    hand_over: Callable[[Job, Path], Sent]
    """Hands over the file at a path."""
    facts: Callable[[Job], Mapping[str, Any]] = lambda job: {}
    """What its template sees besides the job."""
    elsewhere: bool = False
    """Whether processes run where the paths of this machine mean nothing, in an image or on a cluster of its own."""


def make(recipe: Recipe, path: Path, settings: Sequence[str], *, elsewhere: bool) -> Job:
    """The job of a recipe that was read from `path` with `settings`."""
    launch = recipe.launch
    given = (*settings, f"launch.kind={launch.kind}")
    runs = array_settings(recipe) or [[]]
    outputs = [f"{recipe.output}/{number}" for number in range(len(runs))] if runs[0] else [recipe.output]
    parts = tuple(Part(output, (*given, *own)) for output, own in zip(outputs, runs, strict=True))
    python = launch.python or ("python3" if elsewhere or launch.container else sys.executable)
    folder = launch.folder or str(Path.cwd())
    return Job(launch, str(path), dump(recipe, defaults=False), parts, folder, python)


def array_settings(recipe: Recipe) -> list[list[str]]:
    """For each run of Slurm's job array, what to read the recipe with besides the user's own settings."""
    if recipe.launch.kind != "slurm":
        return []
    return [
        [*(f"{key}={write_inline(value)}" for key, value in item.items()), f"output={recipe.output}/{number}"]
        for number, item in enumerate(recipe.launch.slurm.array)
    ]
