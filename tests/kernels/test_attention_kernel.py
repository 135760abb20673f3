"""The attention kernel against torch's own in float64, with the mask written out."""

import pytest
import torch
from torch.nn import functional

from trainer.kernels.attention_kernel import attend

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 5e-3}


def heads(tokens: int, size: int, dtype: torch.dtype, shared: int = 2) -> list[torch.Tensor]:
    """As a model hands them on: views of [1, S, N, D]."""
    torch.manual_seed(tokens)
    return [
        torch.randn(1, tokens, count, size, dtype=dtype).transpose(1, 2).requires_grad_()
        for count in (4, shared, shared)
    ]


def expected(parts: list[torch.Tensor], lengths: tuple[int, ...], window: int) -> torch.Tensor:
    query, key, value = parts
    example = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    place = torch.arange(sum(lengths))
    distance = place[:, None] - place[None]
    seen = (example[:, None] == example[None]) & (distance >= 0)
    if window:
        seen &= distance < window
    repeat = query.shape[1] // key.shape[1]
    key, value = (one.repeat_interleave(repeat, dim=1) for one in (key, value))
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=0.3).transpose(1, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", [(2,), (5, 40, 17, 1, 158), (47, 48, 49, 96, 97), (300,)])
@pytest.mark.parametrize("size", [8, 40, 64])
@pytest.mark.parametrize("window", [0, 1, 20])
def test_values_and_gradients(dtype: torch.dtype, lengths: tuple[int, ...], size: int, window: int) -> None:
    parts = heads(sum(lengths), size, dtype)
    exact = [part.detach().double().requires_grad_() for part in parts]
    outer = torch.randn(1, sum(lengths), 4, size).to(dtype)

    made = attend(*parts, lengths, 0.3, window)  # type: ignore[arg-type]
    made.backward(outer)

    wanted = expected(exact, lengths, window)
    wanted.backward(outer.double())
    for ours, theirs in [(made, wanted), *((one.grad, other.grad) for one, other in zip(parts, exact, strict=True))]:
        assert ours is not None and theirs is not None
        # The gradient through a single key is zero, and ours is rounding.
        assert float((ours - theirs).detach().norm()) <= TOLERANCE[dtype] * float(
            max(theirs.detach().norm(), outer.norm())
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_example_is_the_same_to_the_bit_alone_and_among_others(dtype: torch.dtype) -> None:
    lengths = (33, 70, 5)
    parts = heads(sum(lengths), 16, dtype)
    outer = torch.randn(1, sum(lengths), 4, 16).to(dtype)
    together = attend(*parts, lengths, 0.25, 0)  # type: ignore[arg-type]
    gradients = torch.autograd.grad(together, parts, outer)
    place = slice(33, 103)
    alone = [part.detach()[:, :, place].requires_grad_() for part in parts]

    made = attend(*alone, (70,), 0.25, 0)  # type: ignore[arg-type]

    assert torch.equal(made, together[:, place])
    own = torch.autograd.grad(made, alone, outer[:, place])
    for ours, theirs in zip(own, gradients, strict=True):
        assert torch.equal(ours, theirs[:, :, place])


def test_the_number_of_threads_changes_no_bit() -> None:
    parts, results = heads(200, 16, torch.float32), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            made = attend(*parts, (120, 80), 0.25, 0)  # type: ignore[arg-type]
            results.append([made, *torch.autograd.grad(made.square().sum(), parts)])
    finally:
        torch.set_num_threads(before)

    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
