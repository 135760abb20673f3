from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from trainer.data.draws import generator_of
from trainer.data.encoded import Encoded
from trainer.data.masking import Masking, with_second
from trainer.errors import RecipeError

VOCABULARY = ["[PAD]", "[MASK]", "[SEP]", "sun", "##set", "##s", "rain", ","]


def wordpiece(**special: Any) -> Any:
    backend = Tokenizer(models.WordPiece({name: place for place, name in enumerate(VOCABULARY)}, unk_token="[PAD]"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", sep_token="[SEP]", **special)


def drawn(masking: Masking, tokens: list[int], epoch: int = 0, row: int = 0) -> tuple[list[int], list[bool]]:
    seen, learned = masking.drawn(np.array(tokens, np.int32), generator_of(0, "train", epoch, row))
    return seen.tolist(), learned.tolist()


def test_the_share_is_learned_and_mostly_masked() -> None:
    masking = Masking.of(wordpiece(mask_token="[MASK]"), 0.15, whole_words=False)
    tokens = [3, 4, 5, 6, 7] * 2000 + [2]
    seen, learned = drawn(masking, tokens)
    assert sum(learned) == 1500
    assert not learned[-1]
    places = [place for place, one in enumerate(learned) if one]
    assert sum(seen[place] == 1 for place in places) / 1500 == pytest.approx(0.8, abs=0.03)
    # One in ten stays, and one in fifty becomes itself again.
    assert sum(seen[place] == tokens[place] for place in places) / 1500 == pytest.approx(0.12, abs=0.03)
    assert all(one == other for one, other, own in zip(seen, tokens, learned, strict=True) if not own)


def test_row_and_epoch_alone_draw_the_masks() -> None:
    masking = Masking.of(wordpiece(mask_token="[MASK]"), 0.3, whole_words=False)
    tokens = [3, 4, 5, 6, 7] * 20
    assert drawn(masking, tokens) == drawn(masking, tokens)
    assert drawn(masking, tokens) != drawn(masking, tokens, epoch=1)
    assert drawn(masking, tokens) != drawn(masking, tokens, row=1)
    held = [generator_of(0, "test", epoch, 4).random() for epoch in (0, 3)]
    assert held[0] == held[1]


def test_the_pieces_of_a_word_are_masked_together() -> None:
    masking = Masking.of(wordpiece(mask_token="[MASK]"), 0.2, whole_words=True)
    # sunsets, rain, sunset [SEP] set: after a special token a piece begins a word.
    tokens = [3, 4, 5, 6, 3, 4, 2, 4]
    words = [[0, 1, 2], [3], [4, 5], [7]]
    for row in range(30):
        _, learned = drawn(masking, tokens, row=row)
        assert all(len({learned[place] for place in word}) == 1 for word in words)
        assert any(learned)


def test_one_token_at_least_is_learned_where_there_is_one() -> None:
    masking = Masking.of(wordpiece(mask_token="[MASK]"), 0.15, whole_words=False)
    assert sum(drawn(masking, [3, 2])[1]) == 1
    assert sum(drawn(masking, [2, 2])[1]) == 0


def test_a_tokenizer_that_cannot_mask_is_refused() -> None:
    with pytest.raises(RecipeError, match="has no mask token"):
        Masking.of(wordpiece(), 0.15, whole_words=False)
    backend = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    plain = PreTrainedTokenizerFast(tokenizer_object=backend, mask_token="[MASK]")
    with pytest.raises(RecipeError, match="does not write where words begin"):
        Masking.of(plain, 0.15, whole_words=True)


def test_another_second_text_takes_the_place_within_the_room() -> None:
    def pair(first: list[int], second: list[int]) -> Encoded:
        tokens = np.array(first + second, np.int32)
        types = np.array([0] * len(first) + [1] * len(second), np.int8)
        return Encoded(tokens, np.zeros(len(tokens), np.bool_), types=types)

    one, other = pair([10, 11, 2], [12, 2]), pair([20, 2], [21, 22, 23, 2])
    made = with_second(one, other, 100)
    assert made.tokens.tolist() == [10, 11, 2, 21, 22, 23, 2]
    assert made.types is not None
    assert made.types.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert with_second(one, other, 5).tokens.tolist() == [10, 11, 2, 21, 2]
