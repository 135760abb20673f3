import torch
from torch import nn

from trainer.config.optimizer import Optimizer
from trainer.optim import optimizers
from trainer.optim.groups import groups
from trainer.optim.masters import Masters

SETTINGS = Optimizer(lr=1e-3, weight_decay=0.1)


def _model(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 4)).to(torch.bfloat16).to(dtype)


def _gradients(module: nn.Module, step: int) -> list[torch.Tensor]:
    """Gradients that both types hold exactly."""
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(weight.shape, generator=generator).to(torch.bfloat16).float() for weight in module.parameters()]


def _step(module: nn.Module, masters: Masters, optimizer: torch.optim.Optimizer, step: int) -> None:
    for weight, gradient in zip(module.parameters(), _gradients(module, step), strict=True):
        weight.grad = gradient.to(weight.dtype)
    masters.take_gradients()
    optimizer.step()
    masters.write_weights()


def test_masters_follow_float32_adamw_for_ten_steps() -> None:
    module, reference = _model(torch.bfloat16), _model(torch.float32)
    masters = Masters(groups(module, SETTINGS.weight_decay))
    optimizer = optimizers.build(SETTINGS, masters.groups)
    wanted = torch.optim.AdamW(groups(reference, SETTINGS.weight_decay), lr=SETTINGS.lr, fused=False, foreach=False)

    for step in range(10):
        _step(module, masters, optimizer, step)
        for weight, gradient in zip(reference.parameters(), _gradients(reference, step), strict=True):
            weight.grad = gradient
        wanted.step()

    expected = [weight for group in wanted.param_groups for weight in group["params"]]
    for master, weight in zip(masters.state(), expected, strict=True):
        torch.testing.assert_close(master, weight.detach(), rtol=1e-6, atol=1e-7)


def test_weights_are_their_rounded_masters_and_hold_no_gradient() -> None:
    module = _model(torch.bfloat16)
    masters = Masters(groups(module, 0.0))

    _step(module, masters, optimizers.build(SETTINGS, masters.groups), 0)

    weights = [weight for group in groups(module, 0.0) for weight in group["params"]]
    assert all(torch.equal(weight, master.bfloat16()) for weight, master in zip(weights, masters.state(), strict=True))
    assert all(weight.grad is None for weight in weights)
    assert all(master.grad is None for group in masters.groups for master in group["params"])


def test_an_update_below_a_weights_own_bits_is_not_lost() -> None:
    weight = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    masters = Masters([{"params": [weight]}])
    optimizer = torch.optim.SGD(masters.groups, lr=1.0)

    for _ in range(64):
        weight.grad = torch.full_like(weight, 2**-12)
        masters.take_gradients()
        optimizer.step()
        masters.write_weights()

    assert weight.tolist() == [1 - 64 * 2**-12] * 4


def test_float32_weights_are_their_own_masters() -> None:
    module = _model(torch.float32)

    masters = Masters(groups(module, 0.0))

    stepped = {weight for group in masters.groups for weight in group["params"]}
    assert masters.state() == []
    assert stepped == set(module.parameters())


def test_a_weight_without_a_gradient_stays() -> None:
    module = _model(torch.bfloat16)
    masters = Masters(groups(module, 0.1))
    before = [weight.detach().clone() for weight in module.parameters()]

    masters.take_gradients()
    optimizers.build(SETTINGS, masters.groups).step()
    masters.write_weights()

    assert all(torch.equal(weight, old) for weight, old in zip(module.parameters(), before, strict=True))


def test_masters_go_on_from_their_saved_state() -> None:
    module = _model(torch.bfloat16)
    masters = Masters(groups(module, 0.0))
    optimizer = optimizers.build(SETTINGS, masters.groups)
    _step(module, masters, optimizer, 0)
    saved = [master.clone() for master in masters.state()]
    _step(module, masters, optimizer, 1)

    masters.load_state(saved)
    masters.write_weights()

    weights = [weight for group in groups(module, 0.0) for weight in group["params"]]
    assert all(torch.equal(master, old) for master, old in zip(masters.state(), saved, strict=True))
    assert all(torch.equal(weight, old.bfloat16()) for weight, old in zip(weights, saved, strict=True))
