"""What can be said of the flash kernels without a device; tests/gpu runs them."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from trainer.errors import RecipeError
from trainer.model import attention, flash_attention
from trainer.model.attention import Asked, Segments

LENGTHS = (5, 1, 9, 3)


def _heads(device: str = "cpu") -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return tuple(torch.randn(1, heads, sum(LENGTHS), 8, requires_grad=True).to(device) for heads in (6, 2, 2))


@pytest.fixture(autouse=True)
def _without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flash_attention, "package", lambda: False)


@pytest.mark.parametrize("asked", [Asked(0.3), Asked(0.3, window=4), Asked(0.3, causal=False)])
def test_torchs_own_kernel_takes_what_we_hand_it(asked: Asked) -> None:
    """Its shapes alone: it runs on CUDA, and on tensors without data."""
    heads = tuple(one.bfloat16().detach().requires_grad_() for one in _heads("meta"))

    output = flash_attention.attend(*heads, Segments(LENGTHS), asked)
    gradients = torch.autograd.grad(output, heads, torch.empty_like(output))

    assert output.shape == heads[0].shape
    assert [one.shape for one in gradients] == [one.shape for one in heads]


def _as_documented(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts: torch.Tensor,
    key_starts: torch.Tensor,
    longest: int,
    key_longest: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
    num_splits: int,
) -> torch.Tensor:
    """As torch documents varlen_attn: [S, N, D]; a window of tokens to the left and the right, -1 for all."""
    assert torch.equal(starts, key_starts) and longest == key_longest == int(starts.diff().max()) and num_splits == 1
    outputs = []
    for start, end in zip(starts.tolist(), starts[1:].tolist(), strict=False):
        distance = torch.arange(end - start)[:, None] - torch.arange(end - start)
        left, right = (len(distance) if size < 0 else size for size in window_size)
        heads = (one[start:end].transpose(0, 1)[None] for one in (query, key, value))
        seen = (distance <= left) & (-distance <= right)
        one = functional.scaled_dot_product_attention(*heads, attn_mask=seen, scale=scale, enable_gqa=enable_gqa)
        outputs.append(one[0].transpose(0, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize("asked", [Asked(0.3), Asked(0.3, window=4), Asked(0.3, window=1), Asked(0.3, causal=False)])
def test_what_we_hand_it_means_each_example_alone(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = flash_attention.torchs()
    monkeypatch.setattr(module, "varlen_attn", _as_documented)
    heads = _heads()

    ours = flash_attention.attend(*heads, Segments(LENGTHS), asked)

    torch.testing.assert_close(ours, attention.attend(*heads, Segments(LENGTHS), asked), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked(0.3, sinks=torch.zeros(6)), "has sinks"),
        (Asked(0.3, cap=2.0), "bends scores"),
        (Asked(0.3, dropout=0.1), "drops attention out"),
    ],
)
def test_what_it_cannot_do_is_refused(asked: Asked, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        flash_attention.attend(*_heads(), Segments(LENGTHS), asked)
