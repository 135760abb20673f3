"""Training rows that also stand where a model is measured: in validation, in test, or in a benchmark.

Three rules, the first that holds is told: a training row says the same; it asks the same, whatever it answers; or it
says nearly the same. A short prompt is asked by chance, so prompts are compared from 20 characters on.
"""

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from trainer.data.duplicates import Rows, nearest
from trainer.data.example import Example
from trainer.data.facts import Facts, Numbers
from trainer.data.findings import Findings
from trainer.errors import Problem

SHORTEST_PROMPT = 20
"""Characters of a prompt that is compared."""

Kind = Literal["same", "same prompt", "nearly the same"]
_RELATIONS: Mapping[Kind, str] = {
    "same": "says the same as",
    "same prompt": "asks the same as",
    "nearly the same": "says nearly the same as",
}


@dataclass(frozen=True)
class Leak:
    """One training row that another split or a benchmark holds too."""

    row: int
    """Its number among the training rows."""
    where: str
    """`file:line` of the training row."""
    split: str
    """Where it stands too: validation, test, or the key of a benchmark."""
    other: str
    """`file:line` of the first such row there."""
    kind: Kind
    similarity: float
    """Estimated Jaccard similarity where the two are nearly the same; else 1."""

    def to_json(self) -> dict[str, Any]:
        """One line of leakage.json."""
        return {
            "where": self.where,
            "split": self.split,
            "other": self.other,
            "kind": self.kind,
            "similarity": round(self.similarity, 3),
        }


def prompt_digest(example: Example) -> int:
    """A hash of what a row asks, 64 bits: its user's turns, or the text that is not learned, or its words; its images.

    Case, white space and compatible forms of letters are left aside. 0 where it asks nothing, or too little to tell.
    """
    words = " ".join(map(_plain, asked(example))).split()
    prompt = " ".join([*words, *(image.digest() for image in example.images)])
    if len(prompt) < SHORTEST_PROMPT:
        return 0
    return int.from_bytes(hashlib.blake2b(prompt.encode(), digest_size=8).digest()) or 1


def _plain(text: str) -> str:
    """Without case and compatible forms; ASCII has no such forms, and to look for them takes long."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def asked(example: Example) -> Iterator[str]:
    """The texts of a row that ask: the user's turns, what is not learned, words without their tags."""
    yield from example.sequences
    if example.listing is not None:
        yield from example.listing.texts()
    yield from (piece.text for piece in example.pieces if not piece.learned)
    yield from (message["content"] or "" for message in example.messages if message["role"] == "user")
    yield from example.words


def leaks(train: Facts, others: Mapping[str, Facts], similarity: float) -> list[Leak]:
    """The training rows that others hold too, by row and split; nearly the same ones where both have signatures."""
    found = []
    for split, other in others.items():
        same = _first(train.digest, other.digest)
        same_prompt = np.where(train.prompt != 0, _first(train.prompt, other.prompt), -1)
        near, alike = np.full(len(train), -1), np.ones(len(train))
        if train.signatures is not None and other.signatures is not None:
            near, alike = nearest(train.signatures, other.signatures, similarity)
        kinds: list[tuple[Kind, Rows]] = [("same", same), ("same prompt", same_prompt), ("nearly the same", near)]
        told = np.zeros(len(train), dtype=np.bool_)
        for kind, matches in kinds:
            found += [
                Leak(
                    row=row,
                    where=train.where(row),
                    split=split,
                    other=other.where(int(matches[row])),
                    kind=kind,
                    similarity=float(alike[row]) if kind == "nearly the same" else 1.0,
                )
                for row in np.flatnonzero((matches >= 0) & ~told).tolist()
            ]
            told |= matches >= 0
    return sorted(found, key=lambda leak: (leak.row, list(others).index(leak.split)))


def refuse(found: Sequence[Leak]) -> None:
    """DataError with the training rows that leak; nothing where none does."""
    problems = Findings()
    for leak in found:
        place = f"{leak.other} in {leak.split}"
        message = f"{_RELATIONS[leak.kind]} {place}; leave one of them out, or set data.clean.leakage: drop"
        problems.add(leak.split, Problem(leak.where, message))
    problems.raise_if_any()


def sentences(found: Sequence[Leak]) -> list[str]:
    """How many training rows leak where, and one of them."""
    said = []
    for split in dict.fromkeys(leak.split for leak in found):
        there = [leak for leak in found if leak.split == split]
        counts = {kind: sum(leak.kind == kind for leak in there) for kind in _RELATIONS}
        shown = ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
        rows = "row stands" if len(there) == 1 else "rows stand"
        said.append(
            f"{len(there):,} training {rows} in {split} too ({shown}), such as {there[0].where} = {there[0].other}"
        )
    return said


def _first(left: Numbers, right: Numbers) -> Rows:
    """The first place in `right` of each number of `left` [N]; -1 where there is none."""
    known, first = np.unique(right, return_index=True)
    if len(known) == 0:
        return np.full(len(left), -1)
    place = np.minimum(np.searchsorted(known, left), len(known) - 1)
    return np.where(known[place] == left, first[place], -1)
