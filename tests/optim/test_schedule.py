import itertools
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_cosine_with_hard_restarts_schedule_with_warmup,
    get_inverse_sqrt_schedule,
    get_linear_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup,
    get_wsd_schedule,
)

from trainer.config.schedule import Schedule
from trainer.optim.schedule import SHAPES, rate, warmup_steps

THEIRS: dict[str, Any] = {
    "linear": get_linear_schedule_with_warmup,
    "cosine": get_cosine_schedule_with_warmup,
    "cosine_restarts": partial(get_cosine_with_hard_restarts_schedule_with_warmup, num_cycles=2),
    "constant": get_constant_schedule_with_warmup,
    "polynomial": partial(get_polynomial_decay_schedule_with_warmup, lr_end=0.0, power=2.0),
    "inverse_sqrt": get_inverse_sqrt_schedule,
    "wsd": lambda optimizer, num_warmup_steps, num_training_steps: get_wsd_schedule(
        optimizer,
        num_warmup_steps,
        # A warm-up leaves less room for the fall.
        min(4, num_training_steps - num_warmup_steps),
        num_training_steps=num_training_steps,
        decay_type="linear",
    ),
}
UNBOUNDED = ("constant", "inverse_sqrt")
FALLING = [kind for kind in SHAPES if kind not in ("cosine_restarts", "one_cycle", "range_test")]


def _schedule(kind: str, warmup: float) -> Schedule:
    return Schedule.model_validate({"kind": kind, "warmup": warmup})


def _ours(kind: str, warm: int, steps: int) -> list[float]:
    return [rate(_schedule(kind, float(warm)), step, steps) for step in range(steps)]


def _theirs(kind: str, warm: int, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    lengths = {} if kind in UNBOUNDED else {"num_training_steps": steps}
    schedule = THEIRS[kind](optimizer, num_warmup_steps=warm, **lengths)
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize(("kind", "warm", "steps"), list(itertools.product(THEIRS, [0, 1, 5, 39], [40])))
def test_only_the_warm_up_differs_from_transformers(kind: str, warm: int, steps: int) -> None:
    # Theirs gives step s of a warm-up of W steps s/W, so that the first one changes nothing; ours gives it (s+1)/W.
    ours, theirs = _ours(kind, warm, steps), _theirs(kind, warm, steps)

    assert ours[warm:] == pytest.approx(theirs[warm:], abs=1e-12)
    assert ours[:warm] == pytest.approx([rate + 1 / warm for rate in theirs[:warm]], abs=1e-12)


def test_the_first_warm_up_step_already_learns_and_the_last_has_the_whole_rate() -> None:
    assert _ours("linear", 4, 8) == [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]


def test_half_way_down_a_cosine_is_half() -> None:
    assert _ours("cosine", 0, 8)[4] == pytest.approx(0.5)


@given(
    kind=st.sampled_from(sorted(FALLING)),
    warmup=st.floats(0, 0.999) | st.integers(0, 60).map(float),
    steps=st.integers(1, 50),
)
def test_the_rate_rises_then_falls_and_stays_above_zero(kind: str, warmup: float, steps: int) -> None:
    schedule = _schedule(kind, warmup)
    warm = warmup_steps(schedule, steps)

    rates = [rate(schedule, step, steps) for step in range(steps)]

    assert all(0 < value <= 1 for value in rates)
    assert rates[:warm] == sorted(rates[:warm])
    assert rates[warm:] == sorted(rates[warm:], reverse=True)
    assert rates[max(0, warm - 1)] == 1.0


@pytest.mark.parametrize(
    ("warmup", "steps", "warm"),
    [(0.03, 100, 3), (0.03, 10, 1), (0.0, 10, 0), (0.999, 10, 10), (1, 10, 1), (5, 10, 5), (50, 10, 10)],
)
def test_a_warm_up_below_one_is_a_share_of_all_steps(warmup: float, steps: int, warm: int) -> None:
    assert warmup_steps(_schedule("linear", warmup), steps) == warm


@pytest.mark.parametrize("kind", ["linear", "cosine", "cosine_restarts", "polynomial", "wsd"])
def test_the_shape_would_end_one_step_after_the_last(kind: str) -> None:
    assert rate(_schedule(kind, 3.0), 20, 20) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("kind", [kind for kind in SHAPES if kind not in ("one_cycle", "range_test")])
def test_the_shapes_start_at_one(kind: str) -> None:
    assert rate(_schedule(kind, 0.0), 0, 20) == 1.0


@pytest.mark.parametrize(("warm", "steps"), [(3, 10), (6, 20), (12, 40)])
def test_one_cycle_is_torchs(warm: int, steps: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=steps, pct_start=warm / steps, cycle_momentum=False
    )
    theirs = []
    for step in range(steps):
        theirs.append(schedule.get_last_lr()[0])
        optimizer.step()
        if step < steps - 1:
            schedule.step()

    assert _ours("one_cycle", warm, steps) == pytest.approx(theirs, abs=1e-9)


def test_a_range_test_rises_by_one_factor_to_the_whole_rate() -> None:
    schedule = Schedule(kind="range_test", warmup=0.0, decades=4.0)

    assert [rate(schedule, step, 5) for step in range(5)] == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    assert rate(schedule, 0, 1) == pytest.approx(1e-4)


def test_a_floor_is_what_is_left() -> None:
    ours = [rate(Schedule(kind="cosine", warmup=0.0, floor=0.1), step, 10) for step in range(11)]

    assert ours[0] == 1.0
    assert ours[5] == pytest.approx(0.1 + 0.9 * 0.5)
    assert ours[10] == pytest.approx(0.1)


def test_a_fall_may_be_told_in_steps() -> None:
    ours = [rate(Schedule(kind="wsd", warmup=0.0, decay=4), step, 10) for step in range(10)]

    assert ours == pytest.approx([1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
