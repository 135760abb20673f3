from typing import Any

import a_recipe
import numpy as np
import pytest

from trainer.config.data import Data
from trainer.data.encoded import Encoded
from trainer.data.example import Example
from trainer.data.fit import fit
from trainer.data.row import BadRow, LeftOut

EXAMPLE = Example("rows.jsonl", 7)


def _data(**keys: Any) -> Data:
    return a_recipe.recipe(data={"max_length": 4, **keys}).data


def _row(length: int, learned_from: int) -> Encoded:
    return Encoded(np.arange(length, dtype=np.int32), np.arange(length) >= learned_from)


def _tokens(fitted: Any) -> list[list[int]]:
    return [one.tokens.tolist() for one in fitted]


@pytest.mark.parametrize("too_long", ["cut", "drop", "error", "split"])
def test_a_row_that_fits_stays_as_it_is(too_long: str) -> None:
    assert _tokens(fit(_data(too_long=too_long), "text", _row(4, 1), EXAMPLE)) == [[0, 1, 2, 3]]


@pytest.mark.parametrize("row", [_row(3, 3), _row(1, 0)], ids=["nothing is learned", "the first alone is learned"])
def test_a_row_from_which_nothing_is_learned_is_left_out(row: Encoded) -> None:
    assert fit(_data(), "text", row, EXAMPLE) == LeftOut("nothing learned", "rows.jsonl", 7, "holds nothing to learn")


def test_a_longer_row_is_cut() -> None:
    assert _tokens(fit(_data(too_long="cut"), "completion", _row(9, 2), EXAMPLE)) == [[0, 1, 2, 3]]


def test_a_row_whose_learned_part_is_cut_off_is_left_out_and_says_where_it_begins() -> None:
    why = "what is learned begins after 6 tokens, and data.max_length: 4 cuts it off"

    assert fit(_data(), "completion", _row(9, 6), EXAMPLE) == LeftOut("learned part cut off", "rows.jsonl", 7, why, 6)


def test_a_longer_row_is_left_out_or_wrong() -> None:
    longer = "tokens, more than data.max_length: 4"
    wrong = fit(_data(too_long="error"), "text", _row(9, 2), EXAMPLE)

    assert fit(_data(too_long="drop"), "text", _row(9, 2), EXAMPLE) == LeftOut(
        "too long", "rows.jsonl", 7, f"has 9 {longer}", 9
    )
    assert isinstance(wrong, BadRow)
    assert str(wrong) == f"rows.jsonl:7: has 9 {longer}; raise it, or set data.too_long: cut"


def test_a_text_becomes_several_and_a_last_token_alone_is_no_example() -> None:
    split = _data(too_long="split", train=[{"path": "-", "format": "text"}])

    assert _tokens(fit(split, "text", _row(10, 0), EXAMPLE)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert _tokens(fit(split, "text", _row(9, 0), EXAMPLE)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert _tokens(fit(split, "chat", _row(9, 0), EXAMPLE)) == [[0, 1, 2, 3]]
