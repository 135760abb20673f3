import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from trainer.config.schedule import Schedule
from trainer.optim.schedule import SHAPES, rate, warmup_steps

THEIRS = {
    "linear": get_linear_schedule_with_warmup,
    "cosine": get_cosine_schedule_with_warmup,
    "constant": get_constant_schedule_with_warmup,
}


def _schedule(kind: str, warmup: float) -> Schedule:
    return Schedule.model_validate({"kind": kind, "warmup": warmup})


def _ours(kind: str, warm: int, steps: int) -> list[float]:
    return [rate(_schedule(kind, float(warm)), step, steps) for step in range(steps)]


def _theirs(kind: str, warm: int, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    lengths = {} if kind == "constant" else {"num_training_steps": steps}
    schedule = THEIRS[kind](optimizer, num_warmup_steps=warm, **lengths)
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize(("kind", "warm", "steps"), list(itertools.product(SHAPES, [0, 1, 5, 39], [40])))
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
    kind=st.sampled_from(sorted(SHAPES)),
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


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_the_shape_would_end_one_step_after_the_last(kind: str) -> None:
    assert rate(_schedule(kind, 3.0), 20, 20) == pytest.approx(0.0, abs=1e-12)


def test_the_shapes_start_at_one() -> None:
    assert [shape(0.0) for shape in SHAPES.values()] == [1.0, 1.0, 1.0]
    assert math.isclose(SHAPES["cosine"](1 / 3), 0.75)
