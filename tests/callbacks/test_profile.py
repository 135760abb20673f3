import gzip
import json
from pathlib import Path

import torch

from trainer.callbacks.profile import Profile
from trainer.config.log import Profile as Settings
from trainer.loop.state import State


def _run(folder: Path, first: int, last: int, steps: int, resumed: int = 0) -> list[str]:
    """Products of another size in each step; what was said."""
    said: list[str] = []
    callback = Profile(Settings(steps=(first, last)), folder, torch.device("cpu"), said.append)
    state = State(step=resumed)
    callback.start(state)
    for step in range(resumed + 1, steps + 1):
        torch.ones(step, 7) @ torch.ones(7, 3)
        state.step = step
        callback.step_end(state)
    callback.end(state)
    return said


def _sizes(folder: Path) -> list[int]:
    """Rows of the products in the trace."""
    with gzip.open(folder / "profile" / "trace-rank-0.json.gz", "rt") as file:
        events = json.load(file)["traceEvents"]
    products = [event for event in events if event.get("name") == "aten::mm"]
    return [event["args"]["Input Dims"][0][0] for event in products]


def test_the_trace_holds_the_steps_of_the_recipe_alone(tmp_path: Path) -> None:
    said = _run(tmp_path, 2, 3, steps=5)

    assert _sizes(tmp_path) == [2, 3]
    assert said == [f"profile of steps 2 to 3: {tmp_path / 'profile' / 'trace-rank-0.json.gz'}"]


def test_the_first_step_can_be_profiled(tmp_path: Path) -> None:
    _run(tmp_path, 1, 1, steps=3)

    assert _sizes(tmp_path) == [1]


def test_a_run_that_stops_between_the_steps_leaves_what_there_is(tmp_path: Path) -> None:
    _run(tmp_path, 2, 9, steps=3)

    assert _sizes(tmp_path) == [2, 3]


def test_a_run_resumed_after_the_steps_profiles_nothing(tmp_path: Path) -> None:
    _run(tmp_path, 2, 3, steps=6, resumed=4)

    assert not (tmp_path / "profile").exists()
