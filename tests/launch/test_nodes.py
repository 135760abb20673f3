"""Two nodes on one machine, each with its own supervisor and small real programs as workers."""

import json
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from trainer.errors import DataError, Problem, RecipeError, RunError, Stopped
from trainer.launch import nodes, supervise

ROOT = Path(__file__).resolve().parents[2]
NODE = """
import sys
from pathlib import Path
from trainer.errors import ShardtuneError
from trainer.launch import supervise
folder, node, port, patience = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
place = supervise.Place("127.0.0.1", port, node, 2, patience)
try:
    sys.exit(supervise.run(folder, processes=2, place=place, threads=1, command=[sys.executable, *sys.argv[5:]]))
except ShardtuneError as error:
    print(error)
    sys.exit(error.status)
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def start(folder: Path, node: int, port: int, text: str, patience: int = 20) -> "subprocess.Popen[str]":
    head = "import os, signal, sys, time\nfrom pathlib import Path\n"
    head += "rank = int(os.environ['RANK'])\nfolder = Path(sys.argv[1])\n"
    command = ["-c", head + textwrap.dedent(text), str(folder)]
    words = [sys.executable, "-c", NODE, str(folder), str(node), str(port), str(patience), *command]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def both(folder: Path, text: str, patience: int = 20) -> list[tuple[int, str]]:
    """Exit status and words of both nodes; the second is started first."""
    port = free_port()
    started = [start(folder, node, port, text, patience) for node in (1, 0)][::-1]
    said = [one.communicate(timeout=60)[0] for one in started]
    return [(one.returncode, words) for one, words in zip(started, said, strict=True)]


def test_ranks_go_through_all_nodes_and_meet(tmp_path: Path) -> None:
    text = """
        import torch
        import torch.distributed as dist
        from trainer import ranks
        ranks.connect('cpu', 20)
        value = torch.tensor([2.0 ** rank])
        dist.all_reduce(value)
        (folder / f'sum-{rank}').write_text(f"{value.item()} {ranks.local_rank()} {ranks.local_world_size()}")
        print('hello')
        ranks.disconnect()
    """
    (tmp_path / "run").mkdir()

    assert both(tmp_path / "run", text) == [(0, ""), (0, "")]

    sums = [file.read_text() for file in sorted(tmp_path.glob("run/sum-*"))]
    assert sums == ["15.0 0 2", "15.0 1 2", "15.0 0 2", "15.0 1 2"]
    assert "[0 to 3] hello" in (tmp_path / "run/logs/all.log").read_text()


def test_a_failure_of_one_node_ends_the_other_and_is_its_word_too(tmp_path: Path) -> None:
    text = "if rank == 3: os.kill(os.getpid(), signal.SIGKILL)\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(1))\n"
    began = time.monotonic()

    (status, said), (other, _) = both(tmp_path, text + "time.sleep(60)")

    assert (status, other) == (5, 5)
    assert "rank 3 of 4 was killed by SIGKILL" in said
    assert time.monotonic() - began < 25
    assert "rank 3 of 4" in json.loads((tmp_path / "summary.json").read_text())["error"]


def test_a_users_mistake_that_another_node_finds_keeps_its_status(tmp_path: Path) -> None:
    text = """
        from trainer.errors import DataError, Problem
        from trainer.launch import outcome
        if rank == 2:
            outcome.write(folder, rank, DataError([Problem('rows.jsonl:3', 'is no JSON')]))
            sys.exit(3)
        time.sleep(0.5)
        sys.exit(1)  # as one whose connection broke
    """
    (status, said), _ = both(tmp_path, text)

    assert (status, said) == (3, "rows.jsonl:3: is no JSON\n")


def test_a_node_that_does_not_come_is_named_by_its_ranks(tmp_path: Path) -> None:
    text = "from trainer import ranks\nranks.connect('cpu', 3)\n"
    alone = start(tmp_path, 0, free_port(), text)

    said, _ = alone.communicate(timeout=60)

    assert alone.returncode == 5
    assert "2 of 4 ranks did not come to 127.0.0.1:" in said
    assert "within 3 seconds (launch.patience): 2 to 3; look at what started them" in said


def test_a_first_node_that_is_not_there_is_told_after_the_patience(tmp_path: Path) -> None:
    place = supervise.Place("127.0.0.1", free_port(), node=1, nodes=2, patience=1)

    with pytest.raises(RunError, match=r"could not reach 127.0.0.1:\d+ within 1 seconds \(Connection refused\)"):
        supervise.run(tmp_path, processes=1, place=place, threads=1, command=["true"])


def test_a_name_of_this_machine_alone_is_refused(tmp_path: Path) -> None:
    place = supervise.Place("localhost", free_port(), nodes=2)

    with pytest.raises(RecipeError, match=r"launch.address: localhost is 127.0.0.1 on this machine itself"):
        supervise.run(tmp_path, processes=1, place=place, threads=1, command=["true"])


def test_the_likeliest_cause_is_blamed(tmp_path: Path) -> None:
    broken, killed = RunError("broken connection"), RunError("killed")
    nodes.tell(tmp_path, 1, killed, 1)
    nodes.tell(tmp_path, 2, RunError("broken too"), 3)

    assert str(nodes.blame(tmp_path, 0, 3, broken, 3)) == "killed"
    assert nodes.blame(tmp_path, 0, 3, killed, 0) is killed
    assert nodes.blame(tmp_path, 0, 1, broken, 3) is broken
    assert nodes.blame(tmp_path, 0, 3, None, 0) is None
    stopped = Stopped("saved")
    assert nodes.blame(tmp_path, 0, 3, stopped, 0) is stopped
    (told,) = [error for weight, _, error in nodes.told(tmp_path, but=2) if weight == 1]
    assert str(told) == "killed"


def test_problems_are_told_as_problems(tmp_path: Path) -> None:
    nodes.tell(tmp_path, 1, DataError([Problem("a:1", "is wrong")]), 0)

    (found,) = nodes.told(tmp_path)

    assert isinstance(found[2], DataError) and found[2].problems == (Problem("a:1", "is wrong"),)
