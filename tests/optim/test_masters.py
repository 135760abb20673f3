import pytest
import torch

from trainer.optim.masters import MASTERS, State, of_weight, value
from trainer.optim.pieces import Scratch, chunks

WHOLE = 1.0 + 2**-7 * 0.3 + 2**-14
"""Between two bfloat16 numbers, with bits that a pair of them holds."""


def kept(master: str, count: int = 5) -> tuple[torch.Tensor, State]:
    weight, state = torch.full((count,), WHOLE).bfloat16(), State()
    MASTERS[master].begin(weight, state, torch.full((count,), WHOLE))
    return weight, state


@pytest.mark.parametrize(("master", "error"), [("float32", 0.0), ("kahan", 2.0**-17), ("stochastic", 2.0**-8)])
def test_a_value_is_kept_to_the_bits_of_its_master(master: str, error: float) -> None:
    weight, state = kept(master)

    assert float((value(weight, state) - torch.tensor(WHOLE)).abs().max()) <= error


@pytest.mark.parametrize(("master", "nbytes"), [("float32", 20), ("kahan", 10), ("stochastic", 0), ("none", 0)])
def test_bytes_beside_five_weights(master: str, nbytes: int) -> None:
    _, state = kept(master)

    assert sum(tensor.nbytes for tensor in state.values()) == nbytes


@pytest.mark.parametrize("master", ["float32", "kahan"])
def test_what_is_put_is_taken_again(master: str) -> None:
    weight, state = kept(master)
    (pieces,) = chunks([weight], 8)
    chunk, scratch = [(piece, state) for piece in pieces], Scratch()
    taken = MASTERS[master].take(chunk, scratch)
    (part,) = taken[1] if isinstance(taken, tuple) else taken
    part.add_(2**-13)
    wanted = part.clone()

    MASTERS[master].put(chunk, taken, scratch, None)

    assert torch.equal(weight, wanted.bfloat16())
    torch.testing.assert_close(value(weight, state), wanted, rtol=2**-17, atol=0.0)


def test_a_float32_weight_is_its_own_master() -> None:
    assert {of_weight(torch.ones(1), master) for master in MASTERS} == {MASTERS["none"]}
    assert of_weight(torch.ones(1).bfloat16(), "kahan") is MASTERS["kahan"]
