import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.optim.pieces import Scratch, chunks


@settings(deadline=None)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=12), st.integers(1, 40))
def test_chunks_hold_every_value_once_in_order_and_none_is_over_the_room(counts: list[int], size: int) -> None:
    weights = [torch.empty(count) for count in counts]

    made = list(chunks(weights, size))

    covered = {id(weight): 0 for weight in weights}
    for chunk in made:
        assert 0 < sum(piece.last - piece.first for piece in chunk) <= size
        for piece in chunk:
            assert piece.first == covered[id(piece.weight)] and piece.first % size == 0
            covered[id(piece.weight)] = piece.last
    assert [covered[id(weight)] for weight in weights] == counts
    ended = [id(piece.weight) for chunk in made for piece in chunk if piece.is_last]
    assert ended == [id(weight) for weight in weights]


def test_small_weights_share_a_chunk_and_empty_ones_are_in_none() -> None:
    weights = [torch.empty(3), torch.empty(0), torch.empty(4), torch.empty(2)]

    assert [[piece.last for piece in chunk] for chunk in chunks(weights, 8)] == [[3, 4], [2]]


def test_scratch_holds_float32_copies_end_to_end() -> None:
    scratch = Scratch()
    scratch.filled("values", [torch.ones(9)])

    flat, parts = scratch.filled("values", [torch.tensor([1.0, 2.0], dtype=torch.bfloat16), torch.tensor([3.0])])

    assert flat.tolist() == [1.0, 2.0, 3.0] and flat.dtype == torch.float32
    parts[1].add_(1)
    assert flat.tolist() == [1.0, 2.0, 4.0]
