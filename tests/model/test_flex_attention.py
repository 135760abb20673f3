import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from trainer.errors import RecipeError
from trainer.model import attention
from trainer.model.attention import Asked, Segments
from trainer.model.flex_attention import BLOCK, attend, block_mask, bucket

# The unfused form, which needs no compiler, says so.
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
LENGTHS = st.lists(st.one_of(st.integers(1, 5), st.integers(1, 400)), min_size=1, max_size=8).map(tuple)


def _heads(tokens: int, keys: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(tokens)
    query, key, value = (torch.randn(1, heads, tokens, 8) for heads in (6, keys, keys))
    return query, key, value


@pytest.mark.parametrize("asked", [Asked(0.3), Asked(0.3, window=50), Asked(0.3, cap=2.0), Asked(0.3, causal=False)])
@pytest.mark.parametrize("keys", [2, 6])
@pytest.mark.parametrize("lengths", [(5, 1, 140, 60), (1,), (128, 128), (300,)])
def test_it_is_the_attention_of_each_example_to_itself(lengths: tuple[int, ...], keys: int, asked: Asked) -> None:
    heads = _heads(sum(lengths), keys)

    ours = attend(*heads, Segments(lengths), asked, flex=flex_attention)

    torch.testing.assert_close(ours, attention.attend(*heads, Segments(lengths), asked), rtol=1e-5, atol=2e-6)


@settings(deadline=None, max_examples=60)
@given(lengths=LENGTHS, window=st.one_of(st.none(), st.integers(1, 500)), causal=st.booleans())
def test_blocks_are_those_that_torch_finds_token_by_token(
    lengths: tuple[int, ...], window: int | None, causal: bool
) -> None:
    causal = causal or window is not None
    ours = block_mask(Segments(lengths), window, causal, torch.device("cpu"))
    size = bucket(sum(lengths))
    theirs = create_block_mask(ours.mask_mod, None, None, size, size, device="cpu", BLOCK_SIZE=BLOCK)

    assert torch.equal(ours.to_dense(), theirs.to_dense())
    assert torch.equal(ours.full_kv_num_blocks, theirs.full_kv_num_blocks)
    assert torch.equal(ours.kv_num_blocks, theirs.kv_num_blocks)


@given(tokens=st.integers(1, 10**6))
def test_a_row_is_filled_up_to_one_of_few_sizes(tokens: int) -> None:
    size = bucket(tokens)

    assert size % BLOCK == 0
    assert tokens <= size < tokens * 9 / 8 + BLOCK


def test_sizes_are_few() -> None:
    assert len({bucket(tokens) for tokens in range(1, 2**15)}) <= 64


def test_layers_of_one_row_share_its_blocks() -> None:
    segments = Segments((5, 9))
    made = []
    for _ in range(3):
        attend(
            *_heads(14), segments, Asked(0.3), flex=lambda *heads, block_mask, **_: made.append(block_mask) or heads[0]
        )

    assert made[0] is made[1] is made[2]


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(RecipeError, match="drops attention out"):
        attend(*_heads(4), Segments((4,)), Asked(0.3, dropout=0.1), flex=flex_attention)


@pytest.mark.slow
def test_compiled_it_is_the_same_and_rows_of_one_size_share_a_program() -> None:
    asked = Asked(0.3, window=50)
    torch._dynamo.utils.counters.clear()
    graphs = []
    for lengths in ((5, 1, 140, 60), (206,), (100, 104)):
        heads = _heads(sum(lengths))
        with torch.no_grad():
            ours = attend(*heads, Segments(lengths), asked)
        torch.testing.assert_close(ours, attention.attend(*heads, Segments(lengths), asked), rtol=1e-5, atol=2e-6)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])

    assert graphs[0] == graphs[1] == graphs[2]
    torch.compiler.reset()
