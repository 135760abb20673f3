from bisect import bisect_right
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from trainer.data.borders import Bordered

WORDS = [
    "the answer is 42, é",
    "ans wer\n\n  the",
    "日本 the 👍🏽",
    "  42 42  ",
    "e\u0301 the Åre",
    "def f(x):\n    return x",
]
TEXTS = st.lists(
    st.one_of(
        st.sampled_from([*WORDS, "<a>", "<b>", " ", "\n", "é", "e\u0301", "the"]),
        st.text(st.characters(codec="utf-8"), max_size=6),
    ),
    max_size=8,
).map("".join)


def byte_level(**change: Any) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=change.pop("prefix", False))
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        WORDS * 4,
        trainers.BpeTrainer(
            vocab_size=340, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), min_frequency=1
        ),
    )
    if "normalizer" in change:
        backend.normalizer = change["normalizer"]
    backend.add_special_tokens(
        [AddedToken("<a>", special=True, **change.get("token", {})), AddedToken("<b>", special=True)]
    )
    return backend


def sentence_piece() -> Tokenizer:
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(
        vocab_size=400, show_progress=False, special_tokens=["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    )
    backend.train_from_iterator(WORDS * 4, trainer)
    return backend


def word_piece() -> Tokenizer:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.train_from_iterator(
        WORDS * 4, trainers.WordPieceTrainer(vocab_size=80, show_progress=False, special_tokens=["[UNK]"])
    )
    return backend


MAKERS: dict[str, Any] = {
    "byte level": byte_level,
    "byte level that composes": lambda: byte_level(normalizer=normalizers.NFC()),
    "byte level without a step of normalising": lambda: byte_level(normalizer=normalizers.Sequence([])),
    "byte level in small letters": lambda: byte_level(normalizer=normalizers.Lowercase()),
    "byte level with a space before": lambda: byte_level(prefix=True),
    "byte level with a token that takes white space": lambda: byte_level(token={"lstrip": True, "rstrip": True}),
    "sentence piece": sentence_piece,
    "word piece": word_piece,
}
BY_BYTES = [*list(MAKERS)[:3], list(MAKERS)[5]]


@cache
def made(name: str) -> tuple[Tokenizer, Bordered]:
    backend = MAKERS[name]()
    return backend, Bordered(backend)


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=120, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=3), data=st.data())
def test_a_border_counts_the_tokens_whose_last_character_stands_before_it(
    name: str, texts: list[str], data: st.DataObject
) -> None:
    backend, bordered = made(name)
    places = [sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5))) for text in texts]
    for text, borders, (tokens, counts) in zip(texts, places, bordered.encode(texts, places), strict=True):
        encoding = backend.encode(text, add_special_tokens=False)
        assert tokens.tolist() == encoding.ids
        ends = [end for _, end in encoding.offsets]
        assert counts.tolist() == [
            len(ends) if border == len(text) else bisect_right(ends, border) if border else 0 for border in borders
        ]


@pytest.mark.parametrize("name", MAKERS)
def test_the_lengths_of_tokens_are_used_where_they_say_it(name: str) -> None:
    backend, bordered = made(name)
    assert (bordered._lengths is not None) == (name in BY_BYTES)
    if bordered._lengths is not None:
        for text in WORDS:
            ids = backend.encode(text, add_special_tokens=False).ids
            composed = normalizers.NFC().normalize_str(text) if "composes" in name else text
            assert bordered._lengths.of(np.array(ids, dtype=np.int32)).sum() == len(composed.encode())


def test_a_text_without_tokens_has_counts_of_none() -> None:
    for name in MAKERS:
        [(tokens, counts), (others, _)] = made(name)[1].encode(["", "the"], [[0, 0], [3]])
        assert (tokens.tolist(), counts.tolist()) == ([], [0, 0])
        assert len(others)
        assert tokens.dtype == np.int32
