import torch
from torch import nn

from trainer.config.optimizer import Optimizer
from trainer.optim import optimizers
from trainer.optim.in_backward import InBackward

SETTINGS = Optimizer(lr=1e-2, weight_decay=0.1, eps=1e-4)


def model() -> nn.Sequential:
    """Its last layer shares its weight with the first, as a tied head does."""
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    made[4].weight = made[0].weight
    return made


def loss(module: nn.Module, step: int, part: int) -> torch.Tensor:
    rows = torch.randn(4, 8, generator=torch.Generator().manual_seed(10 * step + part))
    return (module(rows) ** 2).sum()


def test_steps_in_the_backward_pass_are_those_after_it() -> None:
    early, late = model(), model()
    hooked, plain = (optimizers.build(SETTINGS, module) for module in (early, late))
    steps = InBackward(hooked)

    for step in range(4):
        for part in range(3):
            steps.armed = part == 2
            loss(early, step, part).backward()
            loss(late, step, part).backward()
        wanted = nn.utils.get_total_norm([weight.grad for weight in late.parameters() if weight.grad is not None])
        torch.testing.assert_close(steps.finish(), wanted)
        plain.step()
        plain.zero_grad()

    assert all(torch.equal(one, two) for one, two in zip(early.parameters(), late.parameters(), strict=True))


def test_a_step_is_clipped_by_the_norm_of_the_one_before() -> None:
    early, late = model(), model()
    hooked, plain = (optimizers.build(SETTINGS, module) for module in (early, late))
    steps, limit = InBackward(hooked, 0.5), 0.5
    steps.armed = True
    before = None

    for step in range(4):
        loss(early, step, 0).backward()
        loss(late, step, 0).backward()
        norm = nn.utils.get_total_norm([weight.grad for weight in late.parameters() if weight.grad is not None])
        if before is not None:
            for weight in late.parameters():
                assert weight.grad is not None
                weight.grad /= max(1.0, float(before) / limit)
        torch.testing.assert_close(steps.finish(), norm)
        plain.step()
        plain.zero_grad()
        before = norm

    assert float(before) > limit
    for one, two in zip(early.parameters(), late.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_a_gradient_is_gone_before_the_next_one_comes() -> None:
    module = model()
    steps = InBackward(optimizers.build(SETTINGS, module))
    alive: list[int] = []
    for weight in module.parameters():
        weight.register_post_accumulate_grad_hook(
            lambda _: alive.append(sum(one.grad is not None for one in module.parameters()))
        )
    steps.armed = True

    loss(module, 0, 0).backward()

    assert alive == [0] * 5


def test_until_it_is_armed_gradients_only_add_up() -> None:
    module = model()
    steps = InBackward(optimizers.build(SETTINGS, module))

    loss(module, 0, 0).backward()

    assert all(weight.grad is not None for weight in module.parameters())
    assert all(torch.equal(one, two) for one, two in zip(module.parameters(), model().parameters(), strict=True))
    assert float(steps.finish()) == 0.0
