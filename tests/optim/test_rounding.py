import math

import torch

from trainer.optim.rounding import Noise, round_into

CPU = torch.device("cpu")


def rounded(values: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    target = torch.empty(values.shape, dtype=torch.bfloat16)
    flat = values.clone()
    round_into([target], (flat, [flat]), noise)
    return target


def test_the_mean_of_many_roundings_is_the_value() -> None:
    value, times = 1.0 + 2**-7 * 0.3, 4000
    noise = Noise(0)

    made = torch.cat([rounded(torch.full((250,), value), noise.window(step, (0,), 250, CPU)) for step in range(16)])

    below, above = 1.0, 1.0 + 2**-7
    assert set(made.tolist()) == {below, above}
    # A share of `above` has the standard deviation of a coin that was thrown 4,000 times.
    share = float((made == above).float().mean())
    assert abs(share - 0.3) < 4 * math.sqrt(0.3 * 0.7 / times)


def test_every_value_comes_out_as_one_of_its_two_neighbours() -> None:
    values = torch.randn(5000, generator=torch.Generator().manual_seed(1)) * torch.logspace(-30, 30, 5000)

    made = rounded(values, Noise(3).window(1, (0,), 5000, CPU)).float()

    truncated = (values.view(torch.int32) & -(2**16)).view(torch.float32)
    beyond = ((values.view(torch.int32) & -(2**16)) + 2**16).view(torch.float32)
    assert bool(((made == truncated) | (made == beyond)).all())
    assert 0.45 < float((made == beyond).float().mean()) < 0.55


def test_what_bfloat16_holds_stays_and_what_is_no_number_stays_none() -> None:
    values = torch.tensor([0.0, -0.0, 1.5, -2.0, math.inf, -math.inf, math.nan])

    made = rounded(values, torch.full((7,), 2**16 - 1, dtype=torch.int32))

    assert torch.equal(made[:6], values[:6].bfloat16()) and bool(made[6].isnan())


def test_noise_depends_on_seed_step_and_place_alone() -> None:
    one, same = Noise(5), Noise(5)
    one.window(1, (0, 0), 64, CPU)
    one.window(2, (9, 9), 64, CPU)

    again = one.window(7, (1, 2), 64, CPU).clone()

    assert torch.equal(again, same.window(7, (1, 2), 64, CPU))
    others = (Noise(6).window(7, (1, 2), 64, CPU), one.window(7, (1, 3), 64, CPU), one.window(8, (1, 2), 64, CPU))
    assert not any(torch.equal(again, other) for other in others)


def test_noise_is_uniform_over_sixteen_bits() -> None:
    window = Noise(0).window(3, (0,), 2**16, CPU).double()

    assert window.min() >= 0 and window.max() <= 2**16 - 1
    assert abs(float(window.mean()) - (2**16 - 1) / 2) < 4 * 2**16 / math.sqrt(12 * 2**16)
