import pytest
import torch
from torch import nn

from trainer.config.optimizer import Optimizer
from trainer.optim import clip, optimizers
from trainer.optim.pieces import Scratch

GENERATOR = torch.Generator().manual_seed(0)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(400, 400), nn.LayerNorm(400), nn.Linear(400, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_is_that_of_float64(dtype: torch.dtype) -> None:
    gradients = [torch.randn(size, generator=GENERATOR).to(dtype) for size in (3, 300_000, 1, 70_000)]

    exact = torch.cat([gradient.double() for gradient in gradients]).norm()

    assert float(clip.norm(gradients, Scratch())) == pytest.approx(float(exact), rel=2e-5)


def test_no_gradient_has_the_norm_0() -> None:
    assert float(clip.norm([], Scratch())) == 0.0


@pytest.mark.parametrize(("limit", "expected"), [(None, None), (8.0, None), (2.0, 2.5)])
def test_a_gradient_is_divided_only_where_it_is_too_long(limit: float | None, expected: float | None) -> None:
    found = clip.divisor(torch.tensor(5.0), limit)

    assert (found is None) == (expected is None)
    assert found is None or float(found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("limit", [0.25, 1e6])
@pytest.mark.parametrize("kind", ["adamw", "adam"])
def test_dividing_in_the_kernel_is_clip_grad_norm(kind: str, limit: float) -> None:
    ours, reference = model(), model()
    settings = Optimizer.model_validate({"kind": kind, "lr": 1e-2, "eps": 1e-3})
    optimizer = optimizers.build(settings, ours)
    plain = optimizers.TORCHS[kind](reference.parameters(), lr=1e-2, eps=1e-3, weight_decay=0.0, fused=False)

    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        for one, other in zip(ours.parameters(), reference.parameters(), strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        gradients = [weight.grad for weight in ours.parameters() if weight.grad is not None]
        norm = clip.norm(gradients, optimizer.scratch)
        optimizer.divisor = clip.divisor(norm, limit)
        optimizer.step()
        theirs = nn.utils.clip_grad_norm_(reference.parameters(), limit)
        plain.step()
        torch.testing.assert_close(norm, theirs, rtol=2e-5, atol=0.0)

    for one, other in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
