import numpy as np

from trainer.data.encoded import Encoded


def row(*lengths: int, tails: tuple[int, ...] = ()) -> Encoded:
    """Parts of these lengths; tokens are counted from 0."""
    total = sum(lengths)
    parts = np.repeat(np.arange(len(lengths)), lengths).astype(np.int16)
    tokens, learned = np.arange(total, dtype=np.int32), np.ones(total, dtype=np.bool_)
    return Encoded(tokens, learned, parts=parts if len(lengths) > 1 else None, tails=tails)


def test_a_cut_takes_the_end() -> None:
    assert row(6).cut(4).tokens.tolist() == [0, 1, 2, 3]
    assert row(3).cut(4).tokens.tolist() == [0, 1, 2]


def test_a_cut_keeps_the_special_tokens_at_the_end() -> None:
    assert row(6, tails=(2,)).cut(4).tokens.tolist() == [0, 1, 4, 5]
    assert row(4, tails=(2,)).cut(4).tokens.tolist() == [0, 1, 2, 3]


def test_each_part_is_cut_by_itself() -> None:
    cut = row(5, 2, 4, tails=(1, 0, 1)).cut(3)
    assert cut.tokens.tolist() == [0, 1, 4, 5, 6, 7, 8, 10]
    assert [part.tokens.tolist() for part in cut.apart()] == [[0, 1, 4], [5, 6], [7, 8, 10]]
    assert row(5, 2, 4).longest == 5
    assert row(5, 2, 4).ends == [5, 7, 11]


def test_a_row_of_one_part_is_that_part() -> None:
    (part,) = row(3).apart()
    assert part.tokens.tolist() == [0, 1, 2]
