"""Every way to keep weights and moments against AdamW in float64."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from trainer.config.optimizer import Optimizer
from trainer.optim import eight_bit, masters, optimizers
from trainer.optim.elementwise import MOMENTS
from trainer.optim.stepper import Stepper

SHAPES = {"a": (96, 64), "b": (300,), "c": (500, 300)}
"""One of them is cut into two chunks; two are laid together."""
WAYS: list[tuple[str, str, float]] = [
    # The error after 20 steps, as a root of mean squares, in parts of how far the weights moved. Rounded to the nearest
    # bfloat16 without anything beside it, it is 0.14.
    ("adamw", "float32", 1e-5),
    ("adamw", "kahan", 5e-3),
    ("adamw", "stochastic", 0.12),
    ("adamw_8bit", "float32", 0.03),
    ("adamw_8bit", "kahan", 0.03),
]


def model(dtype: torch.dtype) -> nn.ParameterDict:
    generator = torch.Generator().manual_seed(0)
    made = {name: (0.1 * torch.randn(shape, generator=generator)).bfloat16() for name, shape in SHAPES.items()}
    return nn.ParameterDict({name: nn.Parameter(tensor.to(dtype)) for name, tensor in made.items()})


def give(module: nn.Module, step: int) -> None:
    """Gradients that every type holds exactly: a direction that lasts, and noise."""
    generator = torch.Generator().manual_seed(step)
    lasting = torch.Generator().manual_seed(99)
    for weight in module.parameters():
        noise = torch.randn(weight.shape, generator=generator) + torch.randn(weight.shape, generator=lasting)
        weight.grad = noise.bfloat16().to(weight.dtype)


def made(kind: str, master: str, dtype: torch.dtype, **more: Any) -> tuple[nn.Module, Stepper]:
    module = model(dtype)
    constants = {"lr": 1e-3, "weight_decay": 0.1, "eps": 1e-6, **more}
    return module, optimizers.build(Optimizer.model_validate({"kind": kind, "master": master, **constants}), module, 4)


def exact(steps: int) -> nn.Module:
    """The same by torch's plain AdamW in float64; of a vector nothing decays."""
    module = model(torch.float64)
    groups = [
        {"params": [module["a"], module["c"]], "weight_decay": 0.1},
        {"params": [module["b"]], "weight_decay": 0.0},
    ]
    plain = torch.optim.AdamW(groups, lr=1e-3, eps=1e-6, foreach=False)
    for step in range(steps):
        give(module, step)
        plain.step()
    return module


def whole(module: nn.Module, optimizer: Stepper) -> list[torch.Tensor]:
    return [masters.value(weight.detach(), optimizer.state[weight]) for weight in module.parameters()]


@pytest.mark.parametrize(("kind", "master", "error"), WAYS)
def test_twenty_steps_follow_float64(kind: str, master: str, error: float) -> None:
    module, optimizer = made(kind, master, torch.bfloat16)
    begun, reference = model(torch.float64).requires_grad_(False), exact(20).requires_grad_(False)

    for step in range(20):
        give(module, step)
        optimizer.step()

    for value, wanted, before in zip(whole(module, optimizer), reference.parameters(), begun.parameters(), strict=True):
        assert float((value - wanted).norm() / (wanted - before).norm()) < error


@pytest.mark.parametrize("kind", ["adamw", "adam"])
def test_float32_weights_are_stepped_as_by_torch(kind: str) -> None:
    module, optimizer = made(kind, "float32", torch.float32, weight_decay=0.0)
    reference = model(torch.float32)
    plain = optimizers.TORCHS[kind](reference.parameters(), lr=1e-3, eps=1e-6, weight_decay=0.0, fused=True)

    for step in range(5):
        for one in (module, reference):
            give(one, step)
        optimizer.step()
        plain.step()

    for weight, wanted in zip(module.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(weight, wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("master", "moved"), [("float32", 1.0), ("kahan", 1.0), ("stochastic", 1.0), ("none", 0.0)])
def test_300_updates_below_the_last_bit_add_up_but_where_nothing_keeps_them(master: str, moved: float) -> None:
    weight = nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))
    settings = Optimizer.model_validate({"master": master, "lr": 2.0**-13, "eps": 1e-12})
    optimizer = optimizers.build(settings, nn.ParameterList([weight]))

    for _ in range(300):
        weight.grad = torch.ones_like(weight)
        optimizer.step()

    # Gradients that never change are steps of the rate, each 1/32 of the distance to the next bfloat16 below 1.
    distance = 1.0 - float(masters.value(weight, optimizer.state[weight]).detach().mean())
    assert distance == pytest.approx(moved * 300 * 2.0**-13, rel=0.01)


@pytest.mark.parametrize("master", ["kahan", "stochastic"])
def test_the_second_moment_falls_when_gradients_become_small(master: str) -> None:
    weight = nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))
    optimizer = optimizers.build(Optimizer.model_validate({"master": master, "lr": 1e-6}), nn.ParameterList([weight]))

    for step in range(301):
        weight.grad = torch.full_like(weight, 1.0 if step == 0 else 0.0)
        optimizer.step()

    # Rounded to the nearest, 0.999 times a bfloat16 number is that number.
    second = optimizer.state[weight]["exp_avg_sq"]
    assert second.dtype == torch.bfloat16
    assert float(second.float().mean()) == pytest.approx(1e-3 * 0.999**300, rel=0.02)


@pytest.mark.parametrize(
    ("kind", "master", "nbytes"),
    [
        ("adamw", "float32", 4 + 8),
        ("adamw", "kahan", 2 + 4),
        ("adamw", "stochastic", 4),
        ("adamw", "none", 4),
        ("adamw_8bit", "stochastic", 2 + 8 / 256),
        ("adamw_8bit", "kahan", 2 + 2 + 8 / 256),
    ],
)
def test_bytes_of_state_a_weight(kind: str, master: str, nbytes: float) -> None:
    weight = nn.Parameter(torch.zeros(64, 128, dtype=torch.bfloat16))
    settings = Optimizer.model_validate({"kind": kind, "master": master})
    optimizer = optimizers.build(settings, nn.ParameterList([weight]))
    weight.grad = torch.ones_like(weight)

    optimizer.step()

    state = optimizer.state[weight]
    assert sum(kept.nbytes for name, kept in state.items() if name != "step") == nbytes * weight.numel()


@pytest.mark.parametrize(("kind", "master"), [way[:2] for way in WAYS] + [("adamw", "none")])
def test_a_saved_optimizer_goes_on_bit_by_bit(kind: str, master: str) -> None:
    module, optimizer = made(kind, master, torch.bfloat16)
    for step in range(3):
        give(module, step)
        optimizer.step()
    weights, saved = copy.deepcopy(module.state_dict()), copy.deepcopy(optimizer.state_dict())
    other, resumed = made(kind, master, torch.bfloat16)
    other.load_state_dict(weights)
    resumed.load_state_dict(saved)

    for step in range(3, 6):
        for one, stepping in ((module, optimizer), (other, resumed)):
            give(one, step)
            stepping.step()

    for weight, again in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(weight, again)
        before, after = optimizer.state[weight], resumed.state[again]
        assert before.keys() == after.keys()
        assert all(
            torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before
        )


@pytest.mark.parametrize(("kind", "master"), [way[:2] for way in WAYS if way[0] == "adamw"])
def test_a_state_goes_through_whole_float32_tensors(kind: str, master: str) -> None:
    module, optimizer = made(kind, master, torch.bfloat16)
    for step in range(3):
        give(module, step)
        optimizer.step()
    other, resumed = made(kind, master, torch.bfloat16)
    for group, fresh in zip(optimizer.param_groups, resumed.param_groups, strict=True):
        for weight, again in zip(group["params"], fresh["params"], strict=True):
            state = optimizer.state[weight]
            tensors = {name: eight_bit.moment(state, name) for name in MOMENTS}
            resumed.put_whole(again, fresh, {"fp32": masters.value(weight, state), "step": state["step"], **tensors})

    for one, stepping in ((module, optimizer), (other, resumed)):
        give(one, 3)
        stepping.step()

    assert all(torch.equal(one, two) for one, two in zip(module.parameters(), other.parameters(), strict=True))


def test_gradients_are_let_go_where_the_engine_wants_it() -> None:
    module, optimizer = made("adamw", "float32", torch.bfloat16)
    give(module, 0)
    optimizer.step()
    assert all(weight.grad is not None for weight in module.parameters())

    optimizer.frees = True
    optimizer.step()

    assert all(weight.grad is None for weight in module.parameters())


def test_a_weight_without_a_gradient_stays() -> None:
    module, optimizer = made("adamw", "kahan", torch.bfloat16)
    give(module, 0)
    module["a"].grad = None

    optimizer.step()

    assert torch.equal(module["a"], model(torch.bfloat16)["a"]) and module["a"] not in optimizer.state
