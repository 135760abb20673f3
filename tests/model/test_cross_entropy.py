import pytest
import torch
from torch import nn
from torch.nn import functional

from trainer.model import cross_entropy
from trainer.model.cross_entropy import linear_cross_entropy

HIDDEN, VOCABULARY = 16, 31


@pytest.fixture
def head() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(HIDDEN, VOCABULARY)


def _chunks_of(positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", 4 * VOCABULARY * positions)


@pytest.mark.parametrize("positions", [1, 3, 24, 1000])
def test_value_and_gradients_are_those_of_torch_in_any_chunks(
    head: nn.Linear, positions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _chunks_of(positions, monkeypatch)
    hidden = torch.randn(24, HIDDEN, requires_grad=True)
    targets = torch.randint(0, VOCABULARY, (24,))
    expected = functional.cross_entropy(head(hidden), targets, reduction="sum")
    wanted = torch.autograd.grad(expected, [hidden, head.weight, head.bias])

    loss = linear_cross_entropy(head, hidden, targets, VOCABULARY)

    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    for ours, theirs in zip(torch.autograd.grad(loss, [hidden, head.weight, head.bias]), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=2e-6)


def test_no_more_than_one_chunk_of_logits_is_made_at_a_time(head: nn.Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    _chunks_of(5, monkeypatch)
    seen = []
    head.register_forward_hook(lambda module, inputs, logits: seen.append(len(logits)))
    hidden = torch.randn(12, HIDDEN, requires_grad=True)

    linear_cross_entropy(head, hidden, torch.zeros(12, dtype=torch.long), VOCABULARY).backward()

    # Forward in order, then each again in the backward pass.
    assert seen[:3] == [5, 5, 2]
    assert sorted(seen[3:]) == [2, 5, 5]


def test_bfloat16_logits_are_summed_in_float32(head: nn.Linear) -> None:
    hidden = torch.randn(24, HIDDEN, dtype=torch.bfloat16)
    targets = torch.randint(0, VOCABULARY, (24,))
    half = head.to(torch.bfloat16)

    loss = linear_cross_entropy(half, hidden, targets, VOCABULARY)

    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, functional.cross_entropy(half(hidden).float(), targets, reduction="sum"))


@pytest.mark.parametrize("positions", [0, 1])
def test_no_target_gives_zero_with_a_gradient_for_every_weight(
    head: nn.Linear, positions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _chunks_of(positions, monkeypatch)
    hidden = torch.randn(8, HIDDEN, requires_grad=True)

    loss = linear_cross_entropy(head, hidden[:0], torch.zeros(0, dtype=torch.long), VOCABULARY)
    loss.backward()

    assert loss.item() == 0.0
    assert hidden.grad is not None and not hidden.grad.any()
    assert head.weight.grad is not None and not head.weight.grad.any()
