"""The launchers themselves, where they are on the machine: mpirun, ssh and pdsh to two hosts, Slurm, Ray, SkyPilot.

Hosts are two network namespaces with an sshd each. A Slurm cluster is used where one answers `sinfo` with two nodes on
this machine, a Ray cluster where `ray status` finds one; `pip install skypilot ray` brings the two packages.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
ADDRESSES = ("10.77.0.1", "10.77.0.2")


def _answers(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


@pytest.fixture
def place(tmp_path: Path) -> Path:
    rows = [json.dumps({"text": f"row {number} says little"}) for number in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "max_position_embeddings": 64}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "tie_word_embeddings": True}
    recipe = {
        "model": {
            "config": {"model_type": "llama", **sizes, **heads},
            "tokenizer": {"vocab_size": 300},
            "dtype": "float32",
        },
        "data": {"train": [{"path": str(tmp_path / "rows.jsonl"), "format": "text"}], "max_length": 32},
        "batch": {"micro": 2, "global": 4},
        "train": {"max_steps": 3, "threads": 1},
        "engine": {"kind": "torch"},
        "log": {"every": 1, "tensorboard": False},
        "launch": {"nodes": 2, "processes": 1, "gpus": 0, "patience": 90, "environment": {"OMP_NUM_THREADS": "1"}},
        "output": str(tmp_path / "run"),
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path


def launch(place: Path, kind: str, *settings: str, inside: tuple[str, ...] = ()) -> str:
    command = [*inside, sys.executable, "-m", "trainer", "launch", "recipe.yaml", "--to", kind, *settings]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def completed(place: Path, seconds: float = 0) -> dict[str, Any]:
    """The summary of the run, once it is there."""
    deadline = time.monotonic() + seconds
    while not (place / "run/summary.json").exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    summary = dict(json.loads((place / "run/summary.json").read_text()))
    assert summary["status"] == "completed"
    assert json.loads((place / "run/environment.json").read_text())["ranks"] == 2
    return summary


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="needs Open MPI: apt install openmpi-bin")
def test_mpirun(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
        monkeypatch.setenv(name, "1")

    launch(place, "mpi", "launch.nodes=1", "launch.processes=2")

    completed(place)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """The hostfile, and the words that run a command on the first host."""
    if os.geteuid() or not all(map(shutil.which, ("ip", "sshd", "pdsh"))):
        pytest.skip("needs to be root, and iproute2, openssh-server and pdsh")
    folder = tmp_path_factory.mktemp("hosts")
    names, daemons = [f"shardtune{os.getpid()}{one}" for one in "ab"], []

    def call(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)

    for key in ("host", "user"):
        call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key))
    try:
        for name in names:
            call("ip", "netns", "add", name)
        links = ("type", "veth", "peer", "name", "eth9", "netns", names[1])
        call("ip", "link", "add", "eth9", "netns", names[0], *links)
        public = (folder / "host.pub").read_text().rsplit(" ", 1)[0]
        (folder / "known").write_text("".join(f"{address} {public}\n" for address in ADDRESSES))
        (folder / "config").write_text(
            f"Host 10.77.0.*\n  IdentityFile {folder}/user\n  UserKnownHostsFile {folder}/known\n  BatchMode yes\n"
        )
        for name, address in zip(names, ADDRESSES, strict=True):
            call("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth9")
            for device in ("lo", "eth9"):
                call("ip", "-n", name, "link", "set", device, "up")
            settings = (f"ListenAddress={address}", f"HostKey={folder}/host", f"AuthorizedKeysFile={folder}/user.pub")
            own = ("StrictModes=no", "PermitRootLogin=yes", "UsePAM=no", f"PidFile={folder}/{name}.pid")
            options = [word for one in (*settings, *own) for word in ("-o", one)]
            daemon = str(shutil.which("sshd"))
            Path("/run/sshd").mkdir(exist_ok=True)
            daemons.append(subprocess.Popen(["ip", "netns", "exec", name, daemon, "-D", "-f", "/dev/null", *options]))
        (folder / "hostfile").write_text("".join(f"{address} slots=1\n" for address in ADDRESSES))
        # A user's own configuration of ssh is in the home folder, which ssh takes from the list of users.
        wrapper = folder / "bin"
        wrapper.mkdir()
        (wrapper / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
        (wrapper / "ssh").chmod(0o755)
        path = f"PATH={wrapper}:{os.environ['PATH']}"
        time.sleep(1)
        yield folder / "hostfile", ("ip", "netns", "exec", names[0], "env", path)
    finally:
        for daemon_process in daemons:
            daemon_process.terminate()
            daemon_process.wait()
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.mark.parametrize("over", ["ssh", "pdsh"])
def test_two_hosts(over: str, place: Path, hosts: tuple[Path, tuple[str, ...]]) -> None:
    hostfile, inside = hosts
    launch(place, "deepspeed", f"launch.hosts={hostfile}", f"launch.deepspeed.over={over}", inside=inside)

    completed(place)


@pytest.mark.skipif(not _answers("sinfo"), reason="needs a Slurm cluster")
def test_slurm(place: Path) -> None:
    said = launch(place, "slurm", "launch.address=127.0.0.1", "launch.slurm.cpus=1", "launch.slurm.requeue=false")

    assert "Submitted as job" in said
    completed(place, 120)


@pytest.mark.skipif(not _answers("ray", "status"), reason="needs a Ray cluster with this environment")
def test_ray(place: Path) -> None:
    launch(place, "ray")

    completed(place, 240)


def test_skypilot_reads_its_file(place: Path) -> None:
    sky = pytest.importorskip("sky", reason="needs skypilot")
    keys = ("launch.gpus=8", "launch.skypilot.accelerators=H100", "launch.container.image=registry/shardtune:1")
    (place / "sky.yaml").write_text(launch(place, "skypilot", "--print", *keys))

    task = sky.Task.from_yaml(str(place / "sky.yaml"))

    assert task.num_nodes == 2
    assert "H100" in str(task.resources) and "--node SKYPILOT_NODE_RANK" in task.run
