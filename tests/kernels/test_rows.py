"""Each kernel of rows.c against the formula in float64."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from trainer.kernels import library, rows

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 4e-3}
"""Of the whole tensor, relative: a few units in the last place."""

Formula = Callable[..., torch.Tensor]


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.double() - theirs).norm() / theirs.norm())


def check(kernel: Formula, formula: Formula, inputs: list[torch.Tensor], dtype: torch.dtype) -> None:
    """Values and the gradients of all inputs."""
    ours = [one.clone().requires_grad_() for one in inputs]
    theirs = [one.double().requires_grad_() for one in inputs]
    made, wanted = kernel(*ours), formula(*theirs)
    outer = torch.randn(wanted.shape)
    made.backward(outer.to(made.dtype))
    wanted.backward(outer.to(made.dtype).double())
    assert relative(made.detach(), wanted.detach()) < TOLERANCE[dtype]
    for own, their in zip(ours, theirs, strict=True):
        assert own.grad is not None and their.grad is not None
        assert relative(own.grad, their.grad) < TOLERANCE[dtype]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    assert library.lacking() is None, "the tests need a compiler, as `shardtune doctor` says"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 3), (3, 17), (2, 5, 512)])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_a_norm(dtype: torch.dtype, shape: tuple[int, ...], offset: float) -> None:
    def formula(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + 1e-5) * (weight + offset)

    inputs = [torch.randn(shape, dtype=dtype) + 0.5, torch.rand(shape[-1]) + 0.5]

    check(lambda hidden, weight: rows.rms_norm(hidden, weight, 1e-5, offset), formula, inputs, dtype)


def test_a_norm_under_autocast_gives_what_products_take() -> None:
    hidden, weight = torch.randn(4, 32), torch.ones(32)

    with torch.autocast("cpu", torch.bfloat16):
        made = rows.rms_norm(hidden, weight, 1e-6, 0.0)

    assert made.dtype == torch.bfloat16
    wanted = functional.rms_norm(hidden, (32,), weight, 1e-6)
    torch.testing.assert_close(made.float(), wanted, rtol=4e-3, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1023), (5, 1408)])
@pytest.mark.parametrize("activation", list(rows.ACTIVATIONS))
def test_a_gated_activation(dtype: torch.dtype, shape: tuple[int, ...], activation: str) -> None:
    own = {"silu": functional.silu, "gelu_tanh": lambda value: functional.gelu(value, approximate="tanh")}[activation]
    inputs = [3 * torch.randn(shape, dtype=dtype) for _ in range(2)]

    check(
        lambda opened, up: rows.gated(opened, up, rows.ACTIVATIONS[activation]),
        lambda opened, up: own(opened) * up,
        inputs,
        dtype,
    )


@pytest.mark.parametrize("value", [-1e4, -89.0, -87.0, -1e-8, 0.0, 30.0, 88.0, 1e4])
def test_a_gate_of_any_size_stays_finite(value: float) -> None:
    opened = torch.full((20,), value, requires_grad=True)

    made = rows.gated(opened, torch.ones(20), rows.ACTIVATIONS["silu"])
    made.sum().backward()

    torch.testing.assert_close(made, functional.silu(opened), rtol=1e-6, atol=1e-30)
    assert opened.grad is not None and opened.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [2, 6, 64])
def test_a_rotation(dtype: torch.dtype, size: int) -> None:
    cosine, sine = torch.randn(1, 9, size), torch.randn(1, 9, size)

    def formula(heads: torch.Tensor) -> torch.Tensor:
        halves = torch.cat((-heads[..., size // 2 :], heads[..., : size // 2]), dim=-1)
        return heads * cosine.double()[:, None] + halves * sine.double()[:, None]

    heads = torch.randn(1, 9, 3, size, dtype=dtype).transpose(1, 2)

    check(lambda one: rows.rotate(one, cosine, sine), formula, [heads], dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocabulary", [1, 15, 1025, 5003])
@pytest.mark.parametrize(("smoothing", "z", "weighted"), [(0.0, 0.0, False), (0.1, 1e-3, False), (0.1, 0.0, True)])
def test_a_cross_entropy(dtype: torch.dtype, vocabulary: int, smoothing: float, z: float, weighted: bool) -> None:
    logits, targets = (5 * torch.randn(7, vocabulary)).to(dtype), torch.randint(0, vocabulary, (7,))
    weights = torch.rand(vocabulary) + 0.5 if weighted else None
    exact = logits.double().requires_grad_()
    own = None if weights is None else weights.double()
    wanted = functional.cross_entropy(exact, targets, weight=own, reduction="sum", label_smoothing=smoothing)
    wanted = wanted + z * torch.logsumexp(exact, -1).square().sum()
    wanted.backward()
    losses, every = torch.empty(7), float(vocabulary if weights is None else weights.sum())
    kind = library.TYPES[dtype]

    library.call("cross_entropy", logits, kind, targets, weights, every, smoothing, z, losses, 7, vocabulary)

    assert float(losses.double().sum()) == pytest.approx(wanted.item(), rel=3e-7, abs=1e-6)
    assert exact.grad is not None
    torch.testing.assert_close(logits.double(), exact.grad, rtol=TOLERANCE[dtype], atol=1e-6)


def test_what_is_no_number_stays_none() -> None:
    logits, losses = torch.randn(1, 40, dtype=torch.bfloat16), torch.empty(1)
    logits[0, 3] = float("nan")

    library.call("cross_entropy", logits, 1, torch.tensor([7]), None, 40.0, 0.0, 0.0, losses, 1, 40)

    assert losses.isnan().all()
    assert logits.isnan().all()


def test_denormals_live_on_in_the_process() -> None:
    assert library.lacking() is None
    assert float(torch.tensor(1e-39) * 0.5) > 0.0
