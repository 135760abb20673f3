import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

import pytest

from trainer.data import processes
from trainer.data.processes import in_order
from trainer.errors import RunError


def square(number: int, seconds: float = 0.0) -> tuple[int, int]:
    """A square, and which process made it; later items are done sooner, and none sooner than after `seconds`."""
    time.sleep(max(seconds, 0.02 - number / 2000))
    return number * number, os.getpid()


def end(how: str, here: int, number: int) -> int:
    """Ends any process but the one that was here first."""
    if os.getpid() != here:
        sys.exit(3) if how == "exit" else os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return number


def counting(limit: int, taken: list[int]) -> Iterator[int]:
    for number in range(limit):
        taken.append(number)
        yield number


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_the_order_of_the_items_whatever_the_number_of_processes(count: int) -> None:
    made = list(in_order(square, range(60), count))

    assert [result for result, _ in made] == [number * number for number in range(60)]
    assert len({process for _, process in made}) <= count


def test_another_process_takes_part() -> None:
    made = list(in_order(partial(square, seconds=0.01), range(500), 2))

    assert len({process for _, process in made}) == 2


def test_a_few_items_are_done_here() -> None:
    made = list(in_order(square, range(processes.ITEMS_A_PROCESS), 8))

    assert {process for _, process in made} == {os.getpid()}


def test_items_are_read_as_they_are_needed() -> None:
    taken: list[int] = []
    results = in_order(square, counting(1000, taken), 2)

    for _ in range(100):
        next(results)

    results.close()
    assert len(taken) <= 100 + 2 * processes.ITEMS_A_PROCESS + 1


@pytest.mark.parametrize(("how", "said"), [("exit", "exit status 3"), ("kill", "SIGKILL, perhaps for want of memory")])
def test_a_process_that_dies_is_one_clear_error(how: str, said: str) -> None:
    with pytest.raises(RunError) as raised:
        list(in_order(partial(end, how, os.getpid()), range(1000), 2))

    assert str(raised.value) == (
        f"a process that turns rows into tokens ended ({said}); the log says more, and data.workers: 1 does without"
    )


def test_what_the_work_raises_here_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_order(partial(divmod, 1), [1, 0], 2))


def test_the_other_processes_end_with_the_one_that_started_them() -> None:
    code = (
        "import os, sys, time; sys.path.insert(0, 'tests/data'); from test_processes import square, in_order\n"
        "for number, (_, process) in enumerate(in_order(square, range(10**6), 2)):\n"
        "    if process != os.getpid(): print(process, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    other = int(done.stdout)
    for _ in range(100):
        try:
            os.kill(other, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("it lives on")
