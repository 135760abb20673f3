"""What looks at each value alone, against torch and the papers' formulas, for ten steps in float32."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from optim.test_stepper import give, made, model
from torch import nn

from trainer.optim import masters

Reference = Callable[[nn.Module, int], None]
LR, DECAY = 1e-3, 0.1


def _decays(weight: torch.Tensor) -> float:
    return DECAY if weight.dim() > 1 else 0.0


def _torchs_sgd(momentum: float) -> Callable[[nn.Module], Reference]:
    def make(module: nn.Module) -> Reference:
        groups = [{"params": [weight], "weight_decay": _decays(weight)} for weight in module.parameters()]
        plain = torch.optim.SGD(groups, lr=LR, momentum=momentum, foreach=False)
        return lambda module, step: plain.step()

    return make


def _lion(module: nn.Module) -> Reference:
    """Chen et al. 2023, algorithm 2."""
    moments = {weight: torch.zeros_like(weight) for weight in module.parameters()}

    @torch.no_grad()
    def step(module: nn.Module, number: int) -> None:
        for weight, moment in moments.items():
            towards = (0.9 * moment + 0.1 * weight.grad).sign()
            weight -= LR * (towards + _decays(weight) * weight)
            moment.mul_(0.99).add_(weight.grad, alpha=0.01)

    return step


def _adamw(module: nn.Module) -> Reference:
    groups = [{"params": [weight], "weight_decay": _decays(weight)} for weight in module.parameters()]
    plain = torch.optim.AdamW(groups, lr=LR, eps=1e-6, foreach=False)
    return lambda module, step: plain.step()


WAYS: dict[str, tuple[dict[str, Any], Callable[[nn.Module], Reference]]] = {
    "sgd": ({"kind": "sgd"}, _torchs_sgd(0.9)),
    "sgd without momentum": ({"kind": "sgd", "momentum": 0.0}, _torchs_sgd(0.0)),
    "lion": ({"kind": "lion"}, _lion),
    "paged adamw": ({"kind": "adamw", "paged": True}, _adamw),
}


@pytest.mark.parametrize("way", WAYS)
def test_ten_steps_are_those_of_its_reference(way: str) -> None:
    settings, make = WAYS[way]
    module, optimizer = made(settings["kind"], "float32", torch.float32, **_more(settings))
    reference = model(torch.float32)
    step_reference = make(reference)

    for step in range(10):
        for one in (module, reference):
            give(one, step)
        optimizer.step()
        step_reference(reference, step)

    for weight, wanted in zip(module.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(weight, wanted, rtol=2e-6, atol=1e-7)


def _more(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "kind"}


@pytest.mark.parametrize(("master", "error"), [("float32", 1e-6), ("kahan", 0.02), ("stochastic", 0.15)])
@pytest.mark.parametrize("kind", ["sgd", "lion"])
def test_masters_keep_what_bfloat16_lacks(kind: str, master: str, error: float) -> None:
    exact, plain = made(kind, "float32", torch.float32)
    module, optimizer = made(kind, master, torch.bfloat16)
    begun = model(torch.float32)

    for step in range(10):
        for one, stepping in ((exact, plain), (module, optimizer)):
            give(one, step)
            stepping.step()

    for weight, wanted, before in zip(module.parameters(), exact.parameters(), begun.parameters(), strict=True):
        value = masters.value(weight.detach(), optimizer.state[weight])
        assert float(((value - wanted).norm() / (wanted - before).norm()).detach()) < error


def test_values_of_a_gradient_are_cut() -> None:
    module, optimizer = made("sgd", "float32", torch.float32, momentum=0.0, weight_decay=0.0)
    optimizer.largest = 0.5
    before = [weight.detach().clone() for weight in module.parameters()]
    give(module, 0)
    gradients = [weight.grad.clamp(-0.5, 0.5) for weight in module.parameters() if weight.grad is not None]

    optimizer.step()

    for weight, old, gradient in zip(module.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(weight.detach(), old - LR * gradient, rtol=1e-6, atol=1e-8)
        assert math.isclose(float((old - weight.detach()).abs().max()), LR * 0.5, rel_tol=1e-3)
