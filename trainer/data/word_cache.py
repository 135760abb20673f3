"""The tokens of texts, word by word: a word that was seen before is looked up instead of being tokenised again.

A byte-level BPE cuts a text with a regular expression before it merges, and a cut by any of the published ones falls
before each space that follows something else, and after each line feed between two characters that are no white space
(unless a slash comes next: o200k takes it into the token before). So a text is cut there, into words with the space
before them, and each has the tokens that it has alone. Texts repeat words far more often than whole sentences: to look
them up takes a fraction of the tokenizer's own time.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]
Tokens = np.ndarray[tuple[int], np.dtype[np.int32]]

WORDS_HELD = 1 << 18
CHARACTERS_HELD = 1 << 23
"""More than these of either, and all words are forgotten; the common ones are soon back."""
JOINED = 64
"""Words that are tokenised as one text, since each text costs the tokenizer some time of its own."""

_SPACE = re.compile(r" (?<=\S )")
_LINE = re.compile(r"\n(?<=\S\n)(?=[^\s/])")
_START = "\0"
"""Stands before what follows no space, the start of a text or of a line; the other words come without their space."""
_REFUSED = dict.fromkeys(("", "\n", _START, f"{_START}\n"), -1)
"""What a text leaves at white space where no cut may be."""
_OTHER_SPACE = (_START, "\n/", "\t", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f")

_CUTS = frozenset(
    {
        *("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'(?i:[sdmt]|ll|ve|re)"),
        *(r" ?\p{L}+", r" ?\p{N}+", r"\p{N}", r"\p{N}+", r"\p{N}{1,3}", r"\p{N}{1,3}+"),
        *(r"[^\r\n\p{L}\p{N}]?\p{L}+", r"[^\r\n\p{L}\p{N}]?+\p{L}+", r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+"),
        *(
            rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}]{capitals}{others}{ending}"
            for capitals, others in (
                ("*", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"),
                ("+", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"),
            )
            for ending in ("", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?")
        ),
        *(r" ?[^\s\p{L}\p{N}]+", r" ?[^\s\p{L}\p{N}]+[\r\n]*", r" ?[^\s\p{L}\p{N}]++[\r\n]*"),
        *(r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*", r" ?[\p{P}\p{S}]+[\r\n]*"),
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+""",
        *(r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+", "[一-龥\u3040-ゟ\u30a0-ヿ]+"),
        *(r"\s*[\r\n]", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"),
    }
)
"""What the expressions of GPT-2, cl100k, o200k, Llama 3, Qwen, Mistral's Tekken, DeepSeek and their heirs choose from:
none matches a space after anything but white space, nor goes on after a line feed but with white space or a slash."""
_WHITE = frozenset({r"\s+(?!\S)", r"\s+"})


class _Words(dict[str, int]):
    """The number of each word, in the order in which they came; `fresh` ones have no tokens yet."""

    def __init__(self) -> None:
        super().__init__(_REFUSED)
        self.fresh: list[str] = []

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self) - len(_REFUSED)
        self.fresh.append(word)
        return number


class WordCache:
    """The words that one tokenizer has met. Threads may share it; one works at a time."""

    def __init__(self, backend: "Tokenizer", bytes_of: Callable[[Tokens], Numbers]) -> None:
        """`cuts_at_spaces(backend)` must hold; `bytes_of` tells how many bytes each token stands for [S]."""
        self._backend, self._bytes_of = backend, bytes_of
        self._lock = Lock()
        self._forget()

    def __reduce__(self) -> tuple[type["WordCache"], tuple[Any, ...]]:
        """Another process begins without words."""
        return WordCache, (self._backend, self._bytes_of)

    def encode(self, texts: Sequence[str]) -> tuple[Tokens, Numbers]:
        """The tokens of all texts end to end [T], without those that the tokenizer adds, and how many each has."""
        with self._lock:
            if len(self._words) > WORDS_HELD or self._characters > CHARACTERS_HELD:
                self._forget()
            cut = [self._cut(text) for text in texts]
            self._learn()
            tokens, lengths = self._put_together([numbers for numbers in cut if numbers is not None])
            whole = [text for text, numbers in zip(texts, cut, strict=True) if numbers is None]
            if not whole:
                return tokens, lengths
            rows = _rows(tokens, lengths), _rows(*tokens_of(self._backend, whole))
            found = [next(rows[numbers is None]) for numbers in cut]
            return np.concatenate(found), np.array([len(row) for row in found], dtype=np.int64)

    def _forget(self) -> None:
        self._words, self._characters = _Words(), 0
        self._tokens = np.zeros(0, dtype=np.int32)
        # Where the tokens of each word begin there, and how many they are.
        self._starts, self._counts = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)

    def _cut(self, text: str) -> Numbers | None:
        """The numbers of its words; None where it is tokenised as a whole."""
        if text.isascii() and not any(space in text for space in _OTHER_SPACE):
            words = text.replace("\n", f"\n {_START}").split(" ")
            words[0] = _START + words[0]
            if words[-1] == _START:
                words.pop()
            numbers = self._numbers(words)
            if numbers.min(initial=0) >= 0:
                return numbers
        if _START in text:
            return None
        words = []
        for line in _LINE.split(text):
            in_line = _SPACE.split(line)
            in_line[0] = _START + in_line[0]
            in_line[-1] += "\n"
            words += in_line
        words[-1] = words[-1][:-1]
        numbers = self._numbers(words)
        return numbers if numbers.min(initial=0) >= 0 else None

    def _numbers(self, words: list[str]) -> Numbers:
        return np.fromiter(map(self._words.__getitem__, words), np.int64, len(words))

    def _learn(self) -> None:
        """Has the fresh words tokenised."""
        words = [word[1:] if word[0] == _START else f" {word}" for word in self._words.fresh]
        self._words.fresh.clear()
        self._characters += sum(map(len, words))
        for first in range(0, len(words), WORDS_HELD):
            tokens, starts, counts = self._tokens_of(words[first : first + WORDS_HELD])
            self._starts = np.concatenate([self._starts, starts + len(self._tokens)])
            self._counts = np.concatenate([self._counts, counts])
            self._tokens = np.concatenate([self._tokens, tokens])

    def _tokens_of(self, words: Sequence[str]) -> tuple[Tokens, Numbers, Numbers]:
        """Tokens, and where those of each word start among them and how many they are."""
        texts = _joined(words)
        tokens, _ = tokens_of(self._backend, ["".join(parts) for parts in texts])
        ends = np.cumsum(np.fromiter((len(part.encode()) for part in chain.from_iterable(texts)), np.int64))
        ends, starts = ends[1::2], ends[::2]
        places = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(self._bytes_of(tokens))])
        first, last = np.searchsorted(places, starts), np.searchsorted(places, ends)
        if _stand_at(places, first, starts) and _stand_at(places, last, ends):
            return tokens, first, last - first
        # Some of their tokens are not the bytes of the text.
        tokens, counts = tokens_of(self._backend, words)
        return tokens, np.cumsum(counts) - counts, counts

    def _put_together(self, texts: Sequence[Numbers]) -> tuple[Tokens, Numbers]:
        """The tokens of texts from those of their words."""
        numbers = np.concatenate([np.zeros(0, dtype=np.int64), *texts])
        counts = self._counts[numbers]
        ends = np.cumsum(counts)
        shifts = self._starts[numbers] - ends + counts
        tokens = self._tokens[np.repeat(shifts, counts) + np.arange(len(ends) and ends[-1])]
        borders = np.concatenate([np.zeros(1, dtype=np.int64), ends])
        return tokens, np.diff(borders[np.cumsum([0, *map(len, texts)])])


def tokens_of(backend: "Tokenizer", texts: Sequence[str]) -> tuple[Tokens, Numbers]:
    """The tokens of all texts end to end [T], without those that the tokenizer adds, and how many each has."""
    rows = [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    return np.fromiter(chain.from_iterable(rows), dtype=np.int32), lengths


def _rows(tokens: Tokens, lengths: Numbers) -> Iterator[Tokens]:
    """The tokens of each text."""
    return iter(np.split(tokens, np.cumsum(lengths)[:-1]))


def _stand_at(places: Numbers, found: Numbers, wanted: Numbers) -> bool:
    return bool(np.all(found < len(places))) and np.array_equal(places[found], wanted)


def _joined(words: Sequence[str]) -> list[list[str]]:
    """Words in turn with what stands before each, by text; there the tokens of a word are those that it has alone."""
    texts: list[list[str]] = []
    last = ""
    for number, word in enumerate(words):
        lone = not _is_joinable(word)
        if not last or lone or number % JOINED == 0:
            texts.append(["", word])
        elif last[-1] == "\n":
            texts[-1] += ["." if word[0] == " " else "", word]
        else:
            texts[-1] += ["" if word[0] == " " else " .\n", word]
        last = "" if lone else word
    return texts


def _is_joinable(word: str) -> bool:
    """Whether white space or a slash at its ends leaves a cut before and after it."""
    body = word[:-1] if len(word) > 1 and word[-1] == "\n" else word
    ends = not body[-1].isspace()
    return ends and (word[0] == " " or not (word[0].isspace() or word[0] == "/"))


def cuts_at_spaces(backend: "Tokenizer") -> bool:
    """Whether the tokens of any text are those of its words, for a byte-level BPE that changes no character."""
    if getattr(backend.model, "dropout", None):
        return False
    for token in backend.get_added_tokens_decoder().values():
        if token.lstrip or token.rstrip or token.single_word:
            return False
        # Tokens of nothing but white space stand within a word.
        if token.content.strip() and any(character.isspace() for character in token.content):
            return False
    if backend.pre_tokenizer is None:
        return False
    written = json.loads(backend.pre_tokenizer.__getstate__())
    steps = written["pretokenizers"] if written["type"] == "Sequence" else [written]
    # One that cuts at white space, and only known ones besides.
    return any(map(_cuts_white, steps)) and all(
        step["type"] == "Digits" or _choices(step) is not None for step in steps
    )


def _cuts_white(step: Any) -> bool:
    return (step["type"] == "ByteLevel" and step["use_regex"]) or (_choices(step) or frozenset()) >= _WHITE


def _choices(step: Any) -> frozenset[str] | None:
    """What the expression of a step chooses from; None where the step may cut elsewhere."""
    if step["type"] == "ByteLevel":
        return None if step["add_prefix_space"] else frozenset()
    if step["type"] != "Split" or step["behavior"] != "Isolated" or step["invert"] or "Regex" not in step["pattern"]:
        return None
    choices = frozenset(_divided(step["pattern"]["Regex"]))
    return choices if choices <= _CUTS else None


def _divided(expression: str) -> list[str]:
    """The alternatives of a regular expression."""
    choices, depth, in_class, escaped = [""], 0, False, False
    for character in expression:
        if character == "|" and not (depth or in_class or escaped):
            choices.append("")
            continue
        if not escaped:
            depth += (character == "(") - (character == ")") if not in_class else 0
            in_class = (character == "[" or in_class) and character != "]"
        escaped = character == "\\" and not escaped
        choices[-1] += character
    return choices
