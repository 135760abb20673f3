import pytest
import torch
from torch import nn
from torch.nn import functional

from trainer.model import products


@pytest.fixture(autouse=True)
def _any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """OneDNN is asked on every processor here."""
    monkeypatch.setattr(products, "_slow_at_mkl", lambda: True)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 8), (3, 7, 8), (130, 8)])
def test_values_and_gradients_are_those_of_float64(bias: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(8, 5, bias=bias)
    inputs = torch.randn(shape, requires_grad=True)
    exact = [one.detach().double().requires_grad_() for one in (inputs, *layer.parameters())]
    outer = torch.randn(*shape[:-1], 5)

    made = products.forward(layer, inputs)
    ours = torch.autograd.grad(made, [inputs, *layer.parameters()], outer)

    wanted = functional.linear(*exact)
    torch.testing.assert_close(made.double(), wanted, rtol=1e-6, atol=1e-6)
    for own, theirs in zip(ours, torch.autograd.grad(wanted, exact, outer.double()), strict=True):
        torch.testing.assert_close(own.double(), theirs, rtol=1e-6, atol=1e-5)


def test_frozen_weights_get_no_gradient() -> None:
    layer = nn.Linear(8, 5).requires_grad_(False)
    inputs = torch.randn(3, 8, requires_grad=True)

    products.forward(layer, inputs).sum().backward()

    assert layer.weight.grad is None
    torch.testing.assert_close(inputs.grad, layer.weight.sum(0).expand(3, 8))


def test_other_types_and_autocast_are_left_to_torch() -> None:
    assert products.serves(torch.zeros(1, 2), torch.zeros(3, 2))
    assert not products.serves(torch.zeros(1, 2).bfloat16(), torch.zeros(3, 2).bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert not products.serves(torch.zeros(1, 2), torch.zeros(3, 2))
