"""From the command to the launcher that takes the run; torchrun, DeepSpeed's launcher and signals are real."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer.errors import RecipeError
from trainer.hand_over import Rendered

ROOT = Path(__file__).resolve().parents[1]
RECIPE: dict[str, Any] = {
    "model": {
        "config": {
            "model_type": "llama",
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "max_position_embeddings": 64,
            "tie_word_embeddings": True,
        },
        "tokenizer": {"vocab_size": 300},
        "dtype": "float32",
    },
    "data": {"train": [{"path": "rows.jsonl", "format": "text"}], "max_length": 32},
    "batch": {"micro": 2, "global": 4},
    "train": {"max_steps": 3, "threads": 1},
    "engine": {"kind": "torch"},
    "checkpoint": {"every": 2},
    "log": {"every": 1, "tensorboard": False},
    "launch": {"processes": 2, "gpus": 0},
    "output": "run",
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with rows and a recipe."""
    rows = [json.dumps({"text": f"row {number} says little"}) for number in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    return tmp_path


def command(place: Path, *words: str, **variables: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", *words],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(place: Path, *words: str, **variables: str) -> tuple[int, str]:
    started = command(place, *words, **variables)
    said = started.communicate(timeout=120)[0]
    return started.returncode, said


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


def summary(place: Path) -> dict[str, Any]:
    return dict(json.loads((place / "run/summary.json").read_text()))


def listening(parent: int) -> set[str]:
    """The addresses that a process and its descendants listen on, as the kernel writes them."""
    family, sockets = [parent], set[str]()
    for process in family:
        with suppress(OSError):
            children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
            family += [int(child) for child in children]
            for descriptor in Path(f"/proc/{process}/fd").iterdir():
                with suppress(OSError):
                    sockets.add(str(descriptor.readlink()))
    found = set[str]()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                found.add(words[1].rpartition(":")[0])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torchrun", "deepspeed"])
def test_a_run_of_another_launcher_is_the_same_run(kind: str, place: Path) -> None:
    status, said = run(place, "launch", "recipe.yaml", "--to", kind)

    assert status == 0, said
    assert said.count("step 3/3") == 1, "rank 0 alone writes to the terminal"
    assert summary(place)["status"] == "completed"
    handed = [json.loads(line) for line in (place / "run/metrics.jsonl").read_text().splitlines()]
    assert (place / f"run/launch/{kind}.sh").is_file()
    assert {path.name for path in (place / "run/logs").iterdir()} >= {"rank-0.log", "rank-1.log", "all.log"}

    assert run(place, "train", "recipe.yaml", "output=alone", "launch.processes=1")[0] == 0
    alone = [json.loads(line) for line in (place / "alone/metrics.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in handed if "loss" in row] == pytest.approx(
        [row["loss"] for row in alone if "loss" in row], abs=1e-5
    )


def test_a_users_mistake_keeps_its_exit_status_through_torchrun(place: Path) -> None:
    with (place / "rows.jsonl").open("a") as rows:
        rows.write("\n{no json\n")
    # The rows are looked at before; here the wrapper itself is asked.
    script = place / "torchrun.sh"
    script.write_text(run(place, "launch", "recipe.yaml", "--to", "torchrun", "--print")[1])

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", script], cwd=place, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 3, done.stderr
    assert done.stderr.rstrip().splitlines()[-1].startswith("rows.jsonl:41: ")
    assert summary(place)["exit_status"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("by_terminal", [False, True])
def test_a_signal_saves_and_the_same_command_goes_on(by_terminal: bool, place: Path) -> None:
    """One for the command alone, as a scheduler sends it, or Ctrl-C, which reaches all of its process group."""
    words = ("launch", "recipe.yaml", "--to", "torchrun", "train.max_steps=400", "checkpoint.every=1000")
    started = command(place, *words)
    metrics = place / "run/metrics.jsonl"
    deadline = time.monotonic() + 60
    while not metrics.exists() or metrics.read_text().count("\n") < 3:
        assert time.monotonic() < deadline and started.poll() is None
        time.sleep(0.05)
    if by_terminal:
        os.killpg(started.pid, signal.SIGINT)
    else:
        started.send_signal(signal.SIGTERM)
    said = started.communicate(timeout=60)[0]

    assert started.returncode == 75, said
    stopped = summary(place)
    assert stopped["status"] == "stopped" and 0 < stopped["steps"] < 400

    status, said = run(place, *words, f"train.max_steps={stopped['steps'] + 1}")
    assert status == 0, said
    assert summary(place)["resumed_from"] == stopped["steps"]


@pytest.mark.slow
def test_two_nodes_started_by_hand_train_together(place: Path) -> None:
    port = free_port()
    settings = ("launch.nodes=2", "launch.processes=1", "launch.patience=60", f"launch.port={port}")
    meet = ("--address", "127.0.0.1")
    second = command(place, "train", "recipe.yaml", *settings, "--node", "NODE", *meet, NODE="1")
    status, said = run(place, "train", "recipe.yaml", *settings, "--node", "0", *meet)

    assert status == 0, said
    assert second.communicate(timeout=60)[0] == f"Node 1 of 2 meets the others at 127.0.0.1:{port}\n"
    assert second.returncode == 0
    assert f"Node 0 of 2 meets the others at 127.0.0.1:{port}" in said and "2 processes" in said
    assert summary(place)["status"] == "completed"


@pytest.mark.slow
def test_nodes_that_share_no_folder_prepare_the_rows_each(
    place: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    for name in ("rows.jsonl", "recipe.yaml"):
        (other / name).write_text((place / name).read_text())
    settings = (
        "launch.nodes=2",
        "launch.processes=1",
        f"launch.port={free_port()}",
        "data.cache=false",
        "--address",
        "127.0.0.1",
    )
    second = command(other, "train", "recipe.yaml", *settings, "--node", "1")
    status, said = run(place, "train", "recipe.yaml", *settings, "--node", "0")

    assert status == 0, said
    assert second.communicate(timeout=60) and second.returncode == 0
    assert summary(place)["status"] == "completed"
    assert (other / "run/data").is_dir() and not (other / "run/summary.json").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("train", "recipe.yaml", "launch.nodes=2"), "launch.nodes: is more than this machine; start it on each"),
        (("train", "recipe.yaml", "launch.nodes=2", "--node", "2"), "launch.nodes: node 2 is not one of 2"),
        (("train", "recipe.yaml", "--node", "NOWHERE"), "--node: NOWHERE is no number, and no variable that is set"),
        (
            ("launch", "recipe.yaml", "--to", "mpi", "launch.nodes=2"),
            "launch.hosts: is needed to hand a run over to mpi",
        ),
        (
            ("launch", "recipe.yaml", "--to", "ray"),
            "launch.kind: ray needs the program ray, which is not on this machine",
        ),
        (
            ("launch", "recipe.yaml", "--to", "slurm", "launch.hosts=x"),
            "launch.hosts: says nothing with launch.kind slurm",
        ),
    ],
)
def test_what_cannot_start_is_refused(place: Path, words: tuple[str, ...], told: str) -> None:
    status, said = run(place, *words, PATH="/nowhere:/usr/bin:/bin") if "ray" in words else run(place, *words)

    assert status == 2 and told in said, said
    assert not (place / "run").exists()


def test_a_job_is_submitted_and_told_how_to_be_followed(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """sbatch itself needs a cluster: a program of its name answers as it does."""
    programs = tmp_path_factory.mktemp("bin")
    (programs / "sbatch").write_text(
        f'#!/bin/sh\ncp "$2" {programs}/taken\necho "$1" > {programs}/asked\necho "71;here"\n'
    )
    (programs / "sbatch").chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"

    status, said = run(place, "launch", "recipe.yaml", "--to", "slurm", "launch.nodes=2", PATH=path)

    assert status == 0, said
    assert "Submitted as job 71." in said
    assert "Follow: tail -F run-71.log\nState:  squeue --job 71\nStop:   scancel 71" in said
    assert (programs / "asked").read_text() == "--parsable\n"
    taken = (programs / "taken").read_text()
    assert taken == run(place, "launch", "recipe.yaml", "--to", "slurm", "--print", "launch.nodes=2")[1]
    assert taken == (place / "run/launch/slurm.sbatch").read_text()

    (programs / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2; exit 1\n")
    status, said = run(place, "launch", "recipe.yaml", "--to", "slurm", PATH=path)
    assert status == 5 and "failed: sbatch: error: invalid partition" in said


def test_train_hands_over_what_is_not_for_this_machine(place: Path) -> None:
    status, said = run(place, "train", "recipe.yaml", "launch.kind=mpi", "launch.nodes=2", "launch.address=10.0.0.1")

    assert status == 2 and "launch.hosts: is needed to hand a run over to mpi" in said


def test_no_secret_is_written_down(place: Path) -> None:
    """What a token of the environment and one of a file leave behind, anywhere."""
    (place / "token").write_text("hidden-in-a-file\n")
    secrets = f"launch.secrets={{TOKEN_A: null, TOKEN_B: {place / 'token'}}}"
    words = ("launch", "recipe.yaml", "--to", "torchrun", secrets, "log.tensorboard=true")
    started = command(place, *words, TOKEN_A="hidden-in-the-environment")
    seen, heard = "", set[str]()
    while started.poll() is None:
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                seen += process.read_text(errors="replace")
        heard |= listening(started.pid)
        time.sleep(0.2)
    said = started.communicate()[0]

    assert started.returncode == 0, said
    assert said.count("step 3/3") == 1, "rank 0 alone writes to the terminal"
    assert {path.name for path in (place / "run/logs").iterdir()} >= {"rank-0.log", "rank-1.log", "all.log"}
    assert heard == {"0100007F"}, "all that listens does so on 127.0.0.1"
    left = [path.read_bytes() for path in (place / "run").rglob("*") if path.is_file()]
    assert not any(b"hidden-in" in content for content in left)
    assert "hidden-in" not in said and "hidden-in" not in seen
    for kind in ("slurm", "kubernetes", "ray", "skypilot", "mpi"):
        printed = run(place, "launch", "recipe.yaml", "--to", kind, "--print", secrets, TOKEN_A="hidden-in-it")[1]
        assert "TOKEN_A" in printed or kind == "ray"
        assert "hidden-in" not in printed


def test_a_missing_secret_is_told_before_anything_starts(place: Path) -> None:
    status, said = run(place, "launch", "recipe.yaml", "--to", "torchrun", "launch.secrets={SECRET_X: null}")

    assert status == 2 and "launch.secrets.SECRET_X: the variable is not set here; set it, or name a file" in said
    assert not (place / "run/logs").exists()


def test_a_launcher_that_a_range_of_nodes_goes_to_is_planned_for_the_fewest(place: Path) -> None:
    settings = ["launch.kind=torchrun", "launch.nodes={min: 1, max: 3}", "launch.address=127.0.0.1"]
    rendered = Rendered(place / "recipe.yaml", settings, None)
    assert "--nnodes=1:3" in rendered.text
    with pytest.raises(RecipeError, match=r"launch\.nodes"):
        Rendered(place / "recipe.yaml", [*settings, "launch.kind=mpi"], None)
