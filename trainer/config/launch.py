"""`launch:` which processes run, and where."""

from typing import Annotated, Any, Literal

from pydantic import Field

from trainer.config.section import Section

Kind = Literal["local", "torchrun", "deepspeed", "slurm", "mpi", "kubernetes", "ray", "skypilot"]
OneLine = Annotated[
    str,
    Field(pattern=r"^[^\x00-\x1f\x7f\u0085\u2028\u2029]+$", description="text in one line, without control characters"),
]
"""Text that ends no line: schedulers read options line by line."""
Variable = Annotated[
    str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="a name of letters, digits and _, no digit first")
]
"""The name of an environment variable."""
Clock = Annotated[
    str, Field(pattern=r"^(\d+-)?\d{1,2}:\d{2}:\d{2}$", description="[days-]hours:minutes:seconds, such as 12:00:00")
]

Seconds = Annotated[int, Field(ge=1, description="seconds")]


class Nodes(Section):
    """As many nodes as there are, within bounds."""

    min: int = Field(ge=1)
    """Nodes that a run needs to start and to go on."""
    max: int = Field(ge=1)
    """Nodes that it uses at most."""


class Mount(Section):
    """A folder of the node, or a volume of the cluster, inside the container."""

    source: OneLine
    """The folder on the node; on Kubernetes the name of a persistent volume claim."""
    target: OneLine
    """Where it is seen inside."""
    read_only: bool = False
    """Whether nothing may be written there."""


class Container(Section):
    """The image that processes run in."""

    image: OneLine
    """The image's reference, or its file."""
    runtime: Literal["docker", "apptainer", "enroot"] = "docker"
    """What runs it; enroot: Slurm with the pyxis plugin. Kubernetes and SkyPilot have their own."""


class Torchrun(Section):
    """For `kind: torchrun`."""

    rendezvous: Literal["c10d", "static"] = "c10d"
    """c10d: the same command on every node, and the first one listens on `launch.address` alone; static: each node is
    told its number by the variable NODE_RANK, and torch listens on every interface of the first one."""
    restarts: int = Field(3, ge=0)
    """How often all processes are started anew, from the last checkpoint, where nodes may come and go."""


class DeepSpeed(Section):
    """For `kind: deepspeed`."""

    over: Literal["pdsh", "ssh"] = "pdsh"
    """What reaches the other hosts; ssh: one connection a host, without pdsh."""


class Slurm(Section):
    """For `kind: slurm`."""

    partition: OneLine | None = None
    """--partition."""
    qos: OneLine | None = None
    """--qos."""
    constraint: OneLine | None = None
    """--constraint: features that nodes must have."""
    reservation: OneLine | None = None
    """--reservation."""
    cpus: int | None = Field(None, ge=1)
    """--cpus-per-task: cores of each node; null: the whole node."""
    memory: OneLine | None = None
    """--mem: memory of each node, such as 200G; 0 is all; null: what the site gives."""
    requeue: bool = True
    """Whether a run that was preempted, or reached its time limit, is queued again and goes on."""
    warning: int = Field(120, ge=1)
    """Seconds before the time limit at which the run is told to save."""
    array: tuple[dict[str, Any], ...] = ()
    """A job array: for each task the settings that differ, such as `optimizer.lr: 1.0e-4`; the run folders are numbered
    below `output`."""


class Kubernetes(Section):
    """For `kind: kubernetes`."""

    job: Literal["job", "trainjob", "pytorchjob"] = "job"
    """job: an indexed Job and a headless Service; trainjob, pytorchjob: what Kubeflow's operators run."""
    namespace: OneLine | None = None
    """The namespace; null: that of kubectl's context."""
    resource: OneLine = "nvidia.com/gpu"
    """What the cluster calls its devices."""
    cpus: OneLine | None = None
    """Cores of each node, such as 16."""
    memory: OneLine | None = None
    """Memory of each node, such as 200Gi."""
    shared_memory: OneLine = "16Gi"
    """The most that processes of a node share by /dev/shm."""
    secret: OneLine = "shardtune"
    """The Secret that holds `launch.secrets` by their names."""
    runtime: OneLine = "torch-distributed"
    """The training runtime of a TrainJob."""


class Ray(Section):
    """For `kind: ray`."""

    cluster: OneLine = "http://127.0.0.1:8265"
    """The dashboard of the cluster, which takes jobs."""


class SkyPilot(Section):
    """For `kind: skypilot`."""

    infra: OneLine | None = None
    """Where, such as aws/us-east-1 or k8s; null: where it is cheapest."""
    accelerators: OneLine | None = None
    """The devices of each node, such as H100; their number is `launch.gpus`."""
    spot: bool = False
    """Whether machines may be taken away."""


class Launch(Section):
    """How the processes of a run are started."""

    kind: Kind = "local"
    """local: on this machine, watched by the command itself; the others hand the run to a launcher or a scheduler."""
    nodes: int | Nodes = 1
    """Machines that take part; `{min, max}` where some may come and go: torchrun and Kubeflow."""
    processes: Literal["auto"] | int = "auto"
    """Processes on each node; auto: one for each CUDA device, one on a machine without."""
    gpus: Literal["auto"] | int = "auto"
    """Devices that are asked for on each node; auto: one for each process; 0: none."""
    address: OneLine | None = None
    """The address that the processes meet at; null: the first node, on this machine 127.0.0.1."""
    port: int | None = Field(None, ge=1, le=65535)
    """The port that the processes meet at; null: any free one, and 29400 where several nodes have to know it."""
    patience: int = Field(300, ge=1)
    """Seconds that processes wait for one another at the start."""
    hosts: OneLine | None = None
    """A file that names the hosts, `name slots=8` a line: deepspeed and mpi."""
    exclude: tuple[OneLine, ...] = ()
    """Nodes that are not to be used."""
    account: OneLine | None = None
    """What pays: Slurm's account; Kubernetes' service account."""
    time_limit: Seconds | Clock | None = None
    """How long it may take: seconds, or [days-]hours:minutes:seconds."""
    modules: tuple[OneLine, ...] = ()
    """Environment modules that are loaded first."""
    environment: dict[Variable, str] = Field(default_factory=dict)
    """Environment variables; what is secret goes into `secrets`."""
    secrets: dict[Variable, OneLine | None] = Field(default_factory=dict)
    """Environment variables that are secret: the file that holds the value, or null for one of the environment itself.
    Values are never written down."""
    container: Container | None = None
    """The image that processes run in."""
    mounts: tuple[Mount, ...] = ()
    """Folders that are seen in the container."""
    folder: OneLine | None = None
    """The folder that paths are relative to; null: that of the command."""
    python: OneLine | None = None
    """The interpreter on the nodes; null: that of the command, python3 in a container."""
    template: OneLine | None = None
    """A Jinja file in place of the one in launchers/."""
    torchrun: Torchrun = Field(default_factory=Torchrun)
    """For `kind: torchrun`."""
    deepspeed: DeepSpeed = Field(default_factory=DeepSpeed)
    """For `kind: deepspeed`."""
    slurm: Slurm = Field(default_factory=Slurm)
    """For `kind: slurm`."""
    kubernetes: Kubernetes = Field(default_factory=Kubernetes)
    """For `kind: kubernetes`."""
    ray: Ray = Field(default_factory=Ray)
    """For `kind: ray`."""
    skypilot: SkyPilot = Field(default_factory=SkyPilot)
    """For `kind: skypilot`."""

    @property
    def least_nodes(self) -> int:
        """The nodes that a run starts with at least."""
        return self.nodes if isinstance(self.nodes, int) else self.nodes.min

    @property
    def most_nodes(self) -> int:
        """The nodes that it uses at most."""
        return self.nodes if isinstance(self.nodes, int) else self.nodes.max

    @property
    def meeting_address(self) -> str:
        """The address that the processes of one machine meet at."""
        return self.address or "127.0.0.1"

    @property
    def meeting_port(self) -> int:
        """The port that every node knows."""
        return self.port or 29400

    @property
    def seconds(self) -> int | None:
        """The time limit in seconds."""
        if not isinstance(self.time_limit, str):
            return self.time_limit
        days, _, clock = self.time_limit.rpartition("-")
        hours, minutes, seconds = map(int, clock.split(":"))
        return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
