from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainer.model import cross_entropy
from trainer.model.cross_entropy import Loss, linear_cross_entropy

HIDDEN, VOCABULARY = 16, 31


@pytest.fixture
def head() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(HIDDEN, VOCABULARY)


def _chunks_of(positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 4 * VOCABULARY * positions
    monkeypatch.setattr(cross_entropy, "_rows", lambda vocabulary, width, itemsize: max(1, size // (4 * vocabulary)))
    monkeypatch.setattr(cross_entropy, "BLOCK_BYTES", size // 2)


LOSSES = {
    "plain": Loss(),
    "smoothed": Loss(smoothing=0.1),
    "z": Loss(z=0.01),
    "weighted": Loss(weights=torch.linspace(0.1, 2.0, VOCABULARY)),
    "all": Loss(smoothing=0.1, z=0.01, weights=torch.linspace(0.1, 2.0, VOCABULARY)),
}
WAYS: dict[str, dict[str, Any]] = {
    "by hand": {},
    "by autograd": {"after": lambda logits: logits},
    "again": {"whole": False},
}


@pytest.mark.parametrize("positions", [1, 3, 24, 1000])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("way", WAYS)
def test_value_and_gradients_are_those_of_torch_in_any_chunks(
    head: nn.Linear, way: str, loss: str, positions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _chunks_of(positions, monkeypatch)
    hidden = torch.randn(24, HIDDEN, requires_grad=True)
    targets = torch.randint(0, VOCABULARY, (24,))
    expected = LOSSES[loss].of(head(hidden), targets)
    wanted = torch.autograd.grad(2 * expected, [hidden, head.weight, head.bias])

    made = linear_cross_entropy(head, hidden, targets, VOCABULARY, loss=LOSSES[loss], **WAYS[way])

    torch.testing.assert_close(made, expected, rtol=1e-6, atol=0)
    for ours, theirs in zip(torch.autograd.grad(2 * made, [hidden, head.weight, head.bias]), wanted, strict=True):
        assert (ours - theirs).norm() <= 1e-6 * theirs.norm()


def test_the_loss_by_torch_is_the_formula() -> None:
    logits, targets = torch.randn(5, VOCABULARY, dtype=torch.float64), torch.tensor([0, 3, 3, 30, 7])
    chances = torch.log_softmax(logits, dim=-1)
    spread = torch.full_like(chances, 0.1 / VOCABULARY)
    spread[range(5), targets] += 0.9

    value = Loss(smoothing=0.1, z=0.01).of(logits, targets)

    formula = -(spread * chances).sum() + 0.01 * torch.logsumexp(logits, -1).square().sum()
    assert abs(value - formula) <= 1e-6 * formula


@pytest.mark.parametrize("frozen", ["head", "hidden"])
def test_what_is_frozen_gets_no_gradient(head: nn.Linear, frozen: str) -> None:
    hidden = torch.randn(6, HIDDEN, requires_grad=frozen == "head")
    head.requires_grad_(frozen == "hidden")

    linear_cross_entropy(head, hidden, torch.arange(6), VOCABULARY).backward()

    assert (hidden.grad is not None) == (frozen == "head")
    assert (head.weight.grad is not None) == (frozen == "hidden")


def test_weights_under_a_hook_train_by_autograd(head: nn.Linear) -> None:
    hidden, targets = torch.randn(6, HIDDEN, requires_grad=True), torch.arange(6)
    head.register_forward_hook(lambda module, inputs, logits: 2 * logits)
    wanted = torch.autograd.grad(functional.cross_entropy(head(hidden), targets, reduction="sum"), head.weight)

    made = torch.autograd.grad(linear_cross_entropy(head, hidden, targets, VOCABULARY), head.weight)

    torch.testing.assert_close(made, wanted)


@pytest.mark.parametrize("way", ["by autograd", "again"])
def test_no_more_than_one_chunk_of_logits_is_made_at_a_time(
    head: nn.Linear, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _chunks_of(5, monkeypatch)
    seen = []
    head.register_forward_hook(lambda module, inputs, logits: seen.append(len(logits)))
    hidden = torch.randn(12, HIDDEN, requires_grad=True)

    linear_cross_entropy(head, hidden, torch.zeros(12, dtype=torch.long), VOCABULARY, **WAYS[way]).backward()

    # Where weights are not whole, each is made again in the backward pass.
    assert seen[:3] == [5, 5, 2]
    assert sorted(seen[3:]) == ([2, 5, 5] if way == "again" else [])


def test_the_memory_of_a_large_head_does_not_grow_with_the_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", 2**20)
    largest = 0
    made = functional.linear

    def noted(*operands: Any) -> torch.Tensor:
        nonlocal largest
        logits = made(*operands)
        largest = max(largest, logits.nbytes)
        return logits

    monkeypatch.setattr(functional, "linear", noted)
    wide = nn.Linear(8, 4000, bias=False)
    hidden = torch.randn(1000, 8, requires_grad=True)

    linear_cross_entropy(wide, hidden, torch.arange(1000), 4000).backward()

    assert largest <= 2**20


def test_bfloat16_logits_are_summed_in_float32(head: nn.Linear) -> None:
    hidden = torch.randn(24, HIDDEN, dtype=torch.bfloat16)
    targets = torch.randint(0, VOCABULARY, (24,))
    half = head.to(torch.bfloat16)

    loss = linear_cross_entropy(half, hidden, targets, VOCABULARY)

    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, functional.cross_entropy(half(hidden).float(), targets, reduction="sum"))


def test_under_autocast_chunks_add_up_in_the_type_of_the_weight(
    head: nn.Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    _chunks_of(4, monkeypatch)
    # All alike, so that what a sum in bfloat16 would lose is no noise that cancels.
    hidden = (torch.rand(1, HIDDEN) + 0.5).bfloat16().float().expand(2000, HIDDEN).contiguous()
    targets = torch.full((2000,), 3)
    rounded = [one.detach().bfloat16().double().requires_grad_() for one in head.parameters()]
    exact = functional.cross_entropy(functional.linear(hidden.double(), *rounded), targets, reduction="sum")
    wanted = torch.autograd.grad(exact, rounded[0])[0]

    with torch.autocast("cpu", torch.bfloat16):
        made = linear_cross_entropy(head, hidden, targets, VOCABULARY)
    (gradient,) = torch.autograd.grad(made, head.weight)

    assert gradient.dtype == torch.float32
    assert (gradient - wanted).norm() <= 5e-3 * wanted.norm()


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
