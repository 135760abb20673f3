import random
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from trainer.data import word_cache
from trainer.data.borders import Bordered
from trainer.data.word_cache import WordCache, cuts_at_spaces

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_2 = LLAMA_3.replace("{1,3}", "")
QWEN_3_5 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = TEKKEN.replace("M}]+|[^", "M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^").replace(
    "M}]*|", "M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
)
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
DEEPSEEK = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
HAN_AND_KANA = "[一-龥\u3040-ゟ\u30a0-ヿ]+"


def split(expression: str, behavior: str = "isolated") -> Any:
    return pre_tokenizers.Split(Regex(expression), behavior=behavior)


def chain_of(*steps: Any) -> Any:
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


PUBLISHED: dict[str, Any] = {
    "GPT-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "SmolLM2": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "Llama 3": chain_of(split(LLAMA_3)),
    "Qwen 2.5": chain_of(split(QWEN_2)),
    "Qwen 3.5": chain_of(split(QWEN_3_5)),
    "Tekken": chain_of(split(TEKKEN)),
    "o200k": chain_of(split(O200K)),
    "cl100k": chain_of(split(CL100K)),
    "DeepSeek": chain_of(split(r"\p{N}{1,3}"), split(HAN_AND_KANA), split(DEEPSEEK)),
}

SPACES = [" ", "  ", "\n", "\n\n", "\t", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\xa0", "\u2003", "\u2028"]
PIECES = [
    "a",
    "B",
    "the",
    "é",
    "e\u0301",
    "日本",
    "7",
    "42",
    ".",
    "!",
    "/",
    "//",
    "'s",
    "'",
    "_",
    "👍🏽",
    "\0",
    "<a>",
    "\u200b",
]
TEXTS = st.one_of(
    st.lists(st.sampled_from(pieces), max_size=24)
    for pieces in (
        [*PIECES, *SPACES],
        ["a", ".", "/", " ", "\n"],
        ["a", "\0", " ", "\n"],
        ["a", "é", *SPACES],
        ["a", "the", ".", " ", "\t", "\xa0"],
    )
).map("".join)


@cache
def tokenizer(name: str) -> Tokenizer:
    """Its vocabulary joins all that stands together in its pieces: white space, slashes, and what is before them."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = PUBLISHED[name]
    backend.decoder = decoders.ByteLevel()
    drawn = random.Random(0)
    backend.train_from_iterator(
        [".\n/", "a //\n/"] * 99 + ["".join(drawn.choices([*PIECES, *SPACES * 3, "/", "/"], k=6)) for _ in range(9000)],
        trainers.BpeTrainer(vocab_size=6000, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()),
    )
    backend.add_special_tokens([AddedToken("<a>", special=True)])
    backend.add_tokens([AddedToken("  ", normalized=False)])
    return backend


@cache
def bordered(name: str) -> Bordered:
    return Bordered(tokenizer(name))


@pytest.mark.parametrize("name", PUBLISHED)
@settings(max_examples=400, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=3))
def test_the_tokens_of_a_text_are_those_of_its_words(name: str, texts: list[str]) -> None:
    cached = bordered(name)._words
    assert cached is not None
    tokens, lengths = cached.encode(texts)
    expected = [tokenizer(name).encode(text, add_special_tokens=False).ids for text in texts]
    assert tokens.tolist() == list(chain.from_iterable(expected))
    assert lengths.tolist() == list(map(len, expected))


@pytest.mark.parametrize("held", [1, 3])
def test_words_that_were_forgotten_are_learned_again(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = tokenizer("GPT-2")
    monkeypatch.setattr(word_cache, "WORDS_HELD", held)
    monkeypatch.setattr(word_cache, "JOINED", 2)
    cached = Bordered(backend)._words
    assert cached is not None
    for text in ["the 42. a\nB", "a\nB the\n\n", "", "B 42. a", "the 42. a\nB"] * 2:
        tokens, _ = cached.encode([text])
        assert tokens.tolist() == backend.encode(text, add_special_tokens=False).ids
        assert len(cached._words) <= held + 6 + len(word_cache._REFUSED)


def test_words_whose_tokens_are_not_their_bytes_are_tokenised_alone() -> None:
    backend = Tokenizer(models.BPE(unk_token="?"))
    backend.pre_tokenizer = PUBLISHED["GPT-2"]
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        ["the a", "a the."] * 9, trainers.BpeTrainer(vocab_size=40, show_progress=False, special_tokens=["?"])
    )
    bordered = Bordered(backend)
    assert bordered._words is not None
    texts = ["the xyz a", "xyz", "a the", "the\nxyz a."]
    for text, (tokens, _) in zip(texts, bordered.encode(texts, [[]] * len(texts)), strict=True):
        assert tokens.tolist() == backend.encode(text, add_special_tokens=False).ids


def test_a_word_is_tokenised_once() -> None:
    asked: list[str] = []

    class Counting:
        def encode_batch_fast(self, texts: list[str], **more: Any) -> Any:
            asked.extend(texts)
            return tokenizer("GPT-2").encode_batch_fast(texts, **more)

    lengths = bordered("GPT-2")._lengths
    assert lengths is not None
    cached = WordCache(Counting(), lengths.of)  # type: ignore[arg-type]
    first, _ = cached.encode(["the a the a", "B the"])
    assert sorted("".join(asked).replace(" .\n", " ").split()) == ["B", "a", "the", "the"]
    asked.clear()
    again, _ = cached.encode(["the a the a", "B the"])
    assert not any(asked)
    assert np.array_equal(first, again)


def changed(**change: Any) -> Tokenizer:
    backend = Tokenizer.from_str(tokenizer("GPT-2").to_str())
    for name, value in change.items():
        setattr(backend, name, value)
    return backend


def test_published_expressions_cut_at_spaces() -> None:
    assert all(cuts_at_spaces(tokenizer(name)) for name in PUBLISHED)


@pytest.mark.parametrize(
    "step",
    [
        None,
        pre_tokenizers.ByteLevel(add_prefix_space=True),
        pre_tokenizers.Metaspace(),
        chain_of(),
        chain_of(pre_tokenizers.Digits()),
        chain_of(split(r"\p{N}{1,3}")),
        chain_of(split(LLAMA_3, "removed")),
        chain_of(split(LLAMA_3, "merged_with_next")),
        chain_of(split(LLAMA_3 + r"|\w+ \w+")),
        chain_of(split(r"\w+ \w+"), split(LLAMA_3)),
        chain_of(pre_tokenizers.Split(" ", behavior="isolated")),
    ],
)
def test_others_are_tokenised_as_a_whole(step: Any) -> None:
    assert not cuts_at_spaces(changed(pre_tokenizer=step))


@pytest.mark.parametrize(
    "token", [{"content": "<b>", "lstrip": True}, {"content": "<b>", "single_word": True}, {"content": "of\nthe"}]
)
def test_tokens_that_reach_beyond_words_leave_texts_whole(token: dict[str, Any]) -> None:
    backend = changed()
    backend.add_tokens([AddedToken(token.pop("content"), **token)])
    assert not cuts_at_spaces(backend)


def test_a_model_that_draws_its_merges_leaves_texts_whole() -> None:
    backend = changed()
    backend.model.dropout = 0.1
    assert not cuts_at_spaces(backend)


def test_a_form_that_is_not_normal_is_the_business_of_the_whole_text() -> None:
    backend = changed(normalizer=normalizers.NFC())
    texts = ["the e\u0301 a", "the é a"]
    for text, (tokens, _) in zip(texts, Bordered(backend).encode(texts, [[], []]), strict=True):
        assert tokens.tolist() == backend.encode(text, add_special_tokens=False).ids
