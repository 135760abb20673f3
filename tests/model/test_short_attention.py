import pytest
import torch
from torch.nn import functional

from trainer.model.attention import Segments, segments_attention
from trainer.model.short_attention import LONGEST, attend, serves


def heads(length: int, groups: int, dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(length)
    # As a model hands them on: a view of [1, L, N, D].
    return [
        torch.randn(1, length, count, 16, dtype=dtype).transpose(1, 2).requires_grad_() for count in (8, groups, groups)
    ]


def expected(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    repeat = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeat, dim=1), value.repeat_interleave(repeat, dim=1)
    return functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)


@pytest.mark.parametrize("length", [1, 2, 33, LONGEST])
@pytest.mark.parametrize("groups", [8, 4, 1])
def test_values_and_gradients_are_those_of_torch(length: int, groups: int) -> None:
    parts = heads(length, groups, torch.float64)
    wanted = expected(*parts, 0.3)
    outer = torch.randn_like(wanted)

    made = attend(*parts, 0.3)

    torch.testing.assert_close(made, wanted, rtol=1e-12, atol=1e-13)
    gradients = (torch.autograd.grad(output, parts, outer) for output in (made, wanted))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_in_bfloat16_it_is_as_near_to_the_truth_as_torch() -> None:
    parts = heads(200, 4, torch.bfloat16)
    exact = expected(*(part.double() for part in parts), 0.25)

    gaps = [
        (output.double() - exact).norm() / exact.norm() for output in (attend(*parts, 0.25), expected(*parts, 0.25))
    ]

    assert gaps[0] <= 2 * gaps[1]


def test_long_examples_and_dropout_are_left_to_torch() -> None:
    long, short = (torch.zeros(1, 1, length, 16, dtype=torch.bfloat16) for length in (LONGEST + 1, LONGEST))

    assert serves(short, 0.0)
    assert not serves(long, 0.0)
    assert not serves(short, 0.1)
    assert not serves(short.float(), 0.0)


def test_a_row_of_short_and_long_examples_keeps_them_apart() -> None:
    lengths = (30, LONGEST + 40, 7)
    parts = [part.detach() for part in heads(sum(lengths), 4, torch.bfloat16)]
    other = [part.clone() for part in parts]
    for part in other:
        part[:, :, 30 : 30 + LONGEST + 40] += 1

    outputs = [
        segments_attention(torch.nn.Module(), *changed, None, segments=Segments(lengths))[0]
        for changed in (parts, other)
    ]

    same = [torch.equal(one, two) for one, two in zip(*(row.split(lengths, dim=1) for row in outputs), strict=True)]
    assert same == [True, False, True]
