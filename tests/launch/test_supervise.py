"""The local launcher, with small real programs as workers."""

import json
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trainer.errors import DataError, OutOfMemoryError, Problem, RecipeError, RunError, Stopped
from trainer.launch import outcome, supervise

ROOT = Path(__file__).resolve().parents[2]


def program(text: str) -> list[str]:
    """A worker's command: `text` with `rank`, `folder` and the usual modules at hand."""
    head = "import os, signal, sys, time\nfrom pathlib import Path\n"
    head += "rank = int(os.environ['RANK'])\nfolder = Path(sys.argv[1])\n"
    return [sys.executable, "-c", head + textwrap.dedent(text)]


def run(folder: Path, text: str, *, processes: int = 2, port: int | None = None, threads: int | None = None) -> int:
    command = [*program(text), str(folder)]
    place = supervise.Place("127.0.0.1", port)
    return supervise.run(folder, processes=processes, place=place, threads=threads, command=command)


LAUNCHER = """
import sys
from pathlib import Path
from trainer.errors import ShardtuneError
from trainer.launch import supervise
folder = Path(sys.argv[1])
try:
    place = supervise.Place("127.0.0.1", None)
    sys.exit(supervise.run(folder, processes=2, place=place, threads=None, command=sys.argv[2:]))
except ShardtuneError as error:
    print(error)
    sys.exit(error.status)
"""


Launch = Callable[[Path, str], "subprocess.Popen[str]"]


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Starts launchers in processes of their own, for signals; none outlives its test."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path, text: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", LAUNCHER, str(folder), *program(text), str(folder)]
        launcher = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        started.append(launcher)
        return launcher

    yield start
    for launcher in started:
        with launcher:
            launcher.kill()


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> float:
    """Seconds until the condition holds; fails after `seconds`."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() < start + seconds, "waited in vain"
        time.sleep(0.02)
    return time.monotonic() - start


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pids(folder: Path, count: int = 2) -> list[int]:
    """The workers' numbers, once all have written them."""
    files = [folder / f"pid-{rank}" for rank in range(count)]
    wait_for(lambda: all(file.exists() and file.read_text().endswith(".") for file in files))
    return [int(file.read_text().rstrip(".")) for file in files]


WRITE_PID = "(folder / f'pid-{rank}').write_text(f'{os.getpid()}.')\n"
SAVE_AND_LEAVE = "signal.signal(signal.SIGTERM, lambda *_: ((folder / f'saved-{rank}').touch(), sys.exit(75)))\n"
WAIT = "time.sleep(60)\n"


def test_a_run_whose_workers_all_end_well_returns_zero(tmp_path: Path) -> None:
    assert run(tmp_path, "(folder / f'was-{rank}').touch()") == 0
    assert (tmp_path / "was-0").exists() and (tmp_path / "was-1").exists()


def test_one_process_is_started_like_many(tmp_path: Path) -> None:
    text = (
        "(folder / 'env').write_text(' '.join(os.environ[n] for n in ('WORLD_SIZE', 'LOCAL_RANK', 'OMP_NUM_THREADS')))"
    )
    assert run(tmp_path, text, processes=1, threads=3) == 0
    assert (tmp_path / "env").read_text() == "1 0 3"


def test_what_a_worker_prints_goes_to_its_log_and_earlier_starts_stay(tmp_path: Path) -> None:
    for word in ("first", "second"):
        run(tmp_path, f"print('{word} of', rank); print('and stderr', file=sys.stderr)")
    log = (tmp_path / "logs/rank-1.log").read_text()
    assert log.count("--- started") == 2
    assert log.index("first of 1") < log.index("second of 1")
    assert "and stderr" in log


def test_rank_zero_can_write_to_the_users_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "fd = os.environ.get('SHARDTUNE_CONSOLE_FD')\nif fd: os.write(int(fd), f'bar of {rank}'.encode())")
    assert capfd.readouterr().out == "bar of 0"


def test_the_error_of_a_worker_is_raised_as_it_was(tmp_path: Path) -> None:
    text = """
        from trainer.errors import DataError, Problem
        from trainer.launch import outcome
        if rank == 1:
            outcome.write(folder, rank, DataError([Problem('rows.jsonl:3', 'is not JSON')]))
            sys.exit(3)
        time.sleep(60)
    """
    with pytest.raises(DataError) as raised:
        run(tmp_path, text)
    assert raised.value.problems == (Problem("rows.jsonl:3", "is not JSON"),)


def test_a_worker_that_explains_itself_wins_over_one_that_broke_with_it(tmp_path: Path) -> None:
    text = """
        from trainer.errors import DataError, Problem
        from trainer.launch import outcome
        if rank == 0:
            time.sleep(0.3)
            sys.exit(1)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(0.4)
        outcome.write(folder, rank, DataError([Problem('rows.jsonl:3', 'is not JSON')]))
        sys.exit(3)
    """
    with pytest.raises(DataError):
        run(tmp_path, text)


def test_a_worker_that_hangs_after_its_error_does_not_hold_up_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.launch.watch.FAILURE_SECONDS", 0.5)
    text = """
        from trainer.errors import OutOfMemoryError
        from trainer.launch import outcome
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if rank == 0: outcome.write(folder, rank, OutOfMemoryError('halve batch.micro'))
        time.sleep(60)
    """
    with pytest.raises(OutOfMemoryError, match="halve"):
        run(tmp_path, text)


def test_an_error_of_an_earlier_start_is_forgotten(tmp_path: Path) -> None:
    outcome.write(tmp_path, 0, DataError([Problem("rows.jsonl:3", "is not JSON")]))
    with pytest.raises(RunError, match="rank 0 of 1 ended with exit status 9"):
        run(tmp_path, "sys.exit(9)", processes=1)


def test_a_killed_rank_is_named_and_ends_the_others(tmp_path: Path) -> None:
    text = """
        print('step 41'); print('step 42', flush=True)
        if rank == 1: os.kill(os.getpid(), signal.SIGKILL)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        time.sleep(60)
    """
    start = time.monotonic()
    with pytest.raises(RunError) as raised:
        run(tmp_path, WRITE_PID + textwrap.dedent(text))
    assert time.monotonic() - start < 15
    message = str(raised.value)
    assert message.startswith("rank 1 of 2 was killed by SIGKILL, perhaps because the machine ran out of memory")
    assert "step 41\n    step 42" in message and str(tmp_path / "logs/rank-1.log") in message
    assert raised.value.status == 5
    assert not any(alive(pid) for pid in pids(tmp_path))


def test_a_sibling_that_does_not_leave_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.launch.watch.FAILURE_SECONDS", 0.5)
    text = WRITE_PID + "if rank == 0: sys.exit(4)\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WAIT
    with pytest.raises(RunError, match="rank 0 of 2 ended with exit status 4"):
        run(tmp_path, text)
    assert not any(alive(pid) for pid in pids(tmp_path))


def test_siblings_of_a_failed_rank_are_gone_within_thirty_seconds() -> None:
    from trainer.launch import watch

    assert watch.SETTLE_SECONDS + watch.FAILURE_SECONDS < 20


def test_a_failed_run_says_so_in_its_summary(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"status": "completed"}')
    with pytest.raises(RunError):
        run(tmp_path, "sys.exit(9)", processes=1)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["status"], summary["exit_status"]) == ("failed", 5)


def test_a_summary_that_the_run_wrote_stays_and_gains_the_error(tmp_path: Path) -> None:
    own = '{"status": "preempted", "steps": 12}'
    with pytest.raises(RunError):
        run(tmp_path, f"(folder / 'summary.json').write_text('{own}'); sys.exit(9)", processes=1)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["status"], summary["steps"], summary["exit_status"]) == ("preempted", 12, 5)
    assert summary["error"].startswith("rank 0 of 1 ended with exit status 9")


def test_workers_die_with_a_launcher_that_is_killed(tmp_path: Path, launch: Launch) -> None:
    launcher = launch(tmp_path, WRITE_PID + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WAIT)
    workers = pids(tmp_path)
    launcher.kill()
    launcher.communicate()
    assert wait_for(lambda: not any(alive(pid) for pid in workers)) < 3


def test_a_folder_with_a_living_run_refuses_a_second(tmp_path: Path, launch: Launch) -> None:
    launcher = launch(tmp_path, WRITE_PID + WAIT)
    pids(tmp_path)
    with pytest.raises(RecipeError, match=f"holds a run that is alive .process {launcher.pid}.") as raised:
        run(tmp_path, "pass")
    assert raised.value.problems[0].where == "output"
    launcher.kill()
    launcher.communicate()
    wait_for(lambda: not any(alive(pid) for pid in pids(tmp_path)))
    assert run(tmp_path, "pass") == 0


def test_sigterm_lets_the_workers_save_and_75_comes_back(tmp_path: Path, launch: Launch) -> None:
    launcher = launch(tmp_path, SAVE_AND_LEAVE + WRITE_PID + WAIT)
    pids(tmp_path)
    launcher.terminate()
    launcher.communicate(timeout=20)
    assert launcher.returncode == 75
    assert (tmp_path / "saved-0").exists() and (tmp_path / "saved-1").exists()
    assert '"status": "stopped"' in (tmp_path / "summary.json").read_text()


def test_a_second_ctrl_c_ends_the_run_at_once(tmp_path: Path, launch: Launch) -> None:
    note = "signal.signal(signal.SIGTERM, lambda *_: (folder / f'told-{rank}').touch())\n"
    launcher = launch(tmp_path, note + WRITE_PID + "while True: time.sleep(1)")
    workers = pids(tmp_path)
    launcher.send_signal(signal.SIGINT)
    wait_for(lambda: (tmp_path / "told-0").exists() and (tmp_path / "told-1").exists())
    assert launcher.poll() is None
    launcher.send_signal(signal.SIGINT)
    said, _ = launcher.communicate(timeout=20)
    assert launcher.returncode == 5
    assert "on a second SIGINT, without saving" in said
    assert not any(alive(pid) for pid in workers)


def test_a_stop_while_the_workers_start_is_a_stop(tmp_path: Path, launch: Launch) -> None:
    launcher = launch(tmp_path, WRITE_PID + WAIT)
    pids(tmp_path)
    launcher.terminate()
    said, _ = launcher.communicate(timeout=20)
    assert launcher.returncode == 75
    assert "stopped by SIGTERM before there was anything to save" in said


def test_workers_that_stop_by_themselves_end_as_stopped(tmp_path: Path) -> None:
    text = """
        from trainer.errors import Stopped
        from trainer.launch import outcome
        outcome.write(folder, rank, Stopped('stopped at step 7; start it again to go on'))
        sys.exit(75)
    """
    with pytest.raises(Stopped, match="stopped at step 7"):
        run(tmp_path, text)


def test_a_port_in_use_is_refused_before_a_process_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RecipeError, match=rf"launch.port: {port} is in use on 127.0.0.1.*leave launch.port out"):
            run(tmp_path, "(folder / 'started').touch()", port=port)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("address", ["192.0.2.1", "no such host"])
def test_an_address_of_another_machine_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(RecipeError, match=r"launch\.address: .*set it to 127.0.0.1"):
        supervise.run(tmp_path, processes=1, place=supervise.Place(address, None), threads=None, command=["true"])


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match=r"output: .*choose another folder"):
        run(tmp_path / "file", "pass")


def test_two_runs_that_start_at_once_meet_on_their_own_ports(tmp_path: Path, launch: Launch) -> None:
    meet = """
        import torch
        import torch.distributed as dist
        from trainer import ranks
        ranks.connect('cpu')
        value = torch.tensor([float(rank + 1)])
        dist.all_reduce(value)
        (folder / f'sum-{rank}').write_text(str(value.item()))
        ranks.disconnect()
    """
    launchers = [launch(tmp_path / name, meet) for name in ("a", "b")]
    for launcher in launchers:
        said, _ = launcher.communicate(timeout=60)
        assert launcher.returncode == 0, said
    assert [file.read_text() for file in sorted(tmp_path.glob("*/sum-*"))] == ["3.0"] * 4


def test_the_launcher_never_imports_torch() -> None:
    code = "import sys, trainer.launch.supervise, trainer.doctor; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_worker_finds_this_package_and_not_a_folder_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "-P" in supervise._command(tmp_path)
    monkeypatch.chdir(ROOT)
    assert "-P" not in supervise._command(tmp_path)
