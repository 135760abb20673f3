import pytest
import torch

from trainer.optim import eight_bit

COUNT = 1000
"""Three whole blocks and a part of one."""


def begun() -> dict[str, torch.Tensor]:
    state = {"step": torch.zeros(())}
    eight_bit.begin(torch.empty(10, 100), state, lambda weight, dtype: torch.zeros_like(weight, dtype=dtype))
    return state


def test_moments_begin_at_0_in_one_byte_each() -> None:
    state = begun()

    assert state["exp_avg"].dtype == torch.uint8 and state["exp_avg_absmax"].shape == (4,)
    assert torch.equal(eight_bit.moment(state, "exp_avg"), torch.zeros(10, 100))
    assert torch.equal(eight_bit.moment(state, "exp_avg_sq"), torch.zeros(10, 100))


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq"])
def test_a_moment_is_kept_to_a_part_of_the_largest_of_its_block(name: str) -> None:
    state = begun()
    value = torch.rand(10, 100, generator=torch.Generator().manual_seed(0)) * torch.logspace(-5, 5, 10)[:, None]

    eight_bit.put_moment(state, name, value)

    largest = torch.stack([block.max() for block in value.view(-1).split(256)]).repeat_interleave(256)[:COUNT]
    error = (eight_bit.moment(state, name) - value).abs().view(-1)
    assert bool((error <= 0.02 * largest).all())


def test_pieces_of_whole_blocks_are_stepped_as_the_whole() -> None:
    group = {"betas": (0.9, 0.99), "eps": 1e-8, "lr": 1e-2, "weight_decay": 0.1}
    gradient = torch.randn(COUNT, generator=torch.Generator().manual_seed(0))
    (one, whole), (two, cut) = ((torch.ones(COUNT), begun()) for _ in range(2))

    for step in (1, 2):
        for state in (whole, cut):
            state["step"].fill_(step)
        eight_bit.update(one, gradient, whole, 0, COUNT, group)
        for first, last in ((0, 512), (512, COUNT)):
            eight_bit.update(two[first:last], gradient[first:last], cut, first, last, group)

    assert torch.equal(one, two)
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_moment_that_has_32_bits_is_itself() -> None:
    state = {"exp_avg": torch.ones(3, dtype=torch.bfloat16)}

    eight_bit.put_moment(state, "exp_avg", torch.tensor([1.0, 2.0, 3.0]))

    assert eight_bit.moment(state, "exp_avg").tolist() == [1.0, 2.0, 3.0]
