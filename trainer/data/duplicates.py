"""Which rows say the same, and which nearly the same (MinHash, Broder 1997; banded, Leskovec et al. 2014, chapter 3).

Permutations and bands are datasketch's, and a signature is the one that datasketch makes of the same hashes; its own
loop over shingles and its dictionaries of rows take seven and twenty times as long, so both are NumPy here.
"""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from trainer.config.data import Data
from trainer.data.example import Example
from trainer.data.facts import Numbers

PERMUTATIONS = 128
SHINGLE = 5
"""Characters of a shingle."""

Signatures = np.ndarray[tuple[int, int], np.dtype[np.uint32]]
Rows = np.ndarray[tuple[int], np.dtype[np.int64]]
Pairs = np.ndarray[tuple[int, int], np.dtype[np.int64]]

_BLOCK = 1024
"""Shingles that are permuted at a time: what they become fits a processor's cache."""
_PAIRS = 1 << 16
"""Pairs of rows that are compared at a time."""
_SMALL = 64
"""Rows of a bucket within which all pairs are compared at once."""
_MISSES = 0.02
"""Share of the weight that a false candidate has against a missed one: candidates are compared, so they cost little."""


def wants_signatures(data: Data) -> bool:
    """Whether the recipe asks for near duplicates."""
    return data.clean.duplicates == "near"


def exact_groups(digests: Numbers) -> Rows:
    """The number of the first row that says the same [N]; a row's own where none does before."""
    _, first, inverse = np.unique(np.asarray(digests), return_index=True, return_inverse=True)
    groups: Rows = first[inverse].astype(np.int64)
    return groups


def signature(example: Example) -> Numbers:
    """The MinHash of what a row says, uint32 [128]; system prompts and tools, which many rows share, are left aside.

    Rows with other images have nothing in common, whatever they say of them.
    """
    talk = tuple(message for message in example.messages if message["role"] != "system")
    said = shingles(" ".join(replace(example, messages=talk, tools=()).texts()))
    images = "".join(image.digest() for image in example.images)
    if images:
        said = said ^ np.uint32(int.from_bytes(hashlib.blake2b(images.encode(), digest_size=4).digest()))
    return _least_of(said)


def signature_of(text: str) -> Numbers:
    """The MinHash of a text's shingles, uint32 [128]."""
    return _least_of(shingles(text))


def _least_of(hashes: Numbers) -> Numbers:
    """The smallest of what each permutation makes of the hashes [S], uint32 [128]."""
    factors, terms = _permutations()
    least = np.full(PERMUTATIONS, np.iinfo(np.uint32).max, dtype=np.uint32)
    for start in range(0, len(hashes), _BLOCK):
        np.minimum(least, (factors * _mixed(hashes[start : start + _BLOCK]) + terms).min(axis=1), out=least)
    return least


def shingles(text: str) -> Numbers:
    """A hash of each five characters in a row, case and runs of white space left aside, uint32 [S].

    A shorter text is one shingle, and an empty one has none.
    """
    said = " ".join(text.casefold().split())
    letters = np.frombuffer(said.ljust(SHINGLE, "\0").encode("utf-32-le"), dtype=np.uint32)
    count = len(letters) - SHINGLE + 1 if said else 0
    hashes = np.zeros(count, dtype=np.uint32)
    for place in range(SHINGLE):
        hashes = hashes * np.uint32(0x9E3779B1) + letters[place : place + count]
    return hashes


@functools.cache
def _permutations() -> tuple[Signatures, Signatures]:
    """What a hash is multiplied with, and what is added, uint32 [128, 1]: datasketch's `affine32`, seed 1."""
    # Here, because it imports SciPy, which a recipe without near duplicates need not wait for.
    from datasketch import MinHash

    factors, terms = MinHash(PERMUTATIONS, seed=1, scheme="affine32").permutations
    return factors[:, None], terms[:, None]


def _mixed(hashes: Numbers) -> Numbers:
    """The finalizer of MurmurHash3, which datasketch mixes hashes with."""
    mixed: Numbers = hashes ^ (hashes >> np.uint32(16))
    mixed *= np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> np.uint32(16)
    return mixed


def near_groups(signatures: Signatures, similarity: float) -> Rows:
    """The number of the first row alike [N]; a row's own where none is.

    Rows are alike from an estimated Jaccard similarity of `similarity` (its standard error is at most 0.045), and where
    a chain of such rows joins them. The order of the rows does not matter.
    """
    alike = exact_groups(_keys(_Chosen(signatures), 0, PERMUTATIONS))
    distinct = np.unique(alike)
    least = _least(similarity)
    # groups[i]: the smallest number of a row that is joined with distinct row i.
    groups = np.arange(len(distinct))
    chosen = _Chosen(signatures, distinct)
    if least < PERMUTATIONS:
        for keys in _bands(chosen, similarity):
            groups = _joined(chosen, keys, groups, least)
    joined: Rows = distinct[groups][np.searchsorted(distinct, alike)]
    return joined


def nearest(
    left: Signatures, right: Signatures, similarity: float
) -> tuple[Rows, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """The row of `right` that each row of `left` is most alike [N], -1 where none is from `similarity` on; how much."""
    matches = np.zeros(len(left), dtype=np.int64)
    best = np.full(len(left), -1, dtype=np.int64)
    bands = (_bands(_Chosen(some), similarity) for some in (left, right))
    for mine, theirs in zip(*bands, strict=True):
        order = np.argsort(theirs, kind="stable")
        first = np.searchsorted(theirs[order], mine, side="left")
        counts = np.searchsorted(theirs[order], mine, side="right") - first
        for rows, places in _spread(first, counts):
            others = order[places]
            equal = np.count_nonzero(left[rows] == right[others], axis=1)
            # The most alike last, and of those that are equally alike the first row.
            ranked = np.lexsort((-others, equal))
            rows, others, equal = rows[ranked], others[ranked], equal[ranked]
            better = (equal > matches[rows]) | ((equal == matches[rows]) & (others < best[rows]))
            matches[rows[better]], best[rows[better]] = equal[better], others[better]
    best[matches < _least(similarity)] = -1
    return best, matches / PERMUTATIONS


def _least(similarity: float) -> int:
    """Permutations that have to agree."""
    return int(np.ceil(similarity * PERMUTATIONS - 1e-9))


class _Chosen:
    """Some rows of signatures that may be too many for memory: they are read where they lie."""

    def __init__(self, signatures: Signatures, rows: Rows | None = None) -> None:
        self._signatures = signatures
        self._rows = None if rows is None or len(rows) == len(signatures) else rows

    def __len__(self) -> int:
        return len(self._signatures if self._rows is None else self._rows)

    def __getitem__(self, rows: "Rows | slice") -> Signatures:
        found: Signatures = self._signatures[rows if self._rows is None else self._rows[rows]]
        return found


def _keys(chosen: _Chosen, start: int, end: int) -> Numbers:
    """One number for some permutations of each row; equal for equal ones, and hardly ever for others, uint64 [N]."""
    keys: Numbers = np.zeros(len(chosen), dtype=np.uint64)
    weights = np.random.default_rng(0).integers(0, 1 << 63, end - start, dtype=np.uint64) * np.uint64(2)
    for first in range(0, len(chosen), _PAIRS):
        some, block = chosen[first : first + _PAIRS], keys[first : first + _PAIRS]
        for place, weight in enumerate(weights + np.uint64(1), start):
            block += (some[:, place] + np.uint64(1)) * weight
    return keys


def _bands(chosen: _Chosen, similarity: float) -> Iterator[Numbers]:
    """Numbers [N] that are equal for rows that may be alike, several times over."""
    for start, end in _ranges(similarity):
        yield _keys(chosen, start, end)


@functools.cache
def _ranges(similarity: float) -> list[tuple[int, int]]:
    """The permutations of each band, as datasketch chooses them."""
    from datasketch import MinHashLSH

    # Above that there would be a single band; what it finds too much is compared away.
    threshold = min(similarity, 0.99)
    index = MinHashLSH(threshold, PERMUTATIONS, weights=(_MISSES, 1 - _MISSES))
    ranges: list[tuple[int, int]] = index.hashranges
    return ranges


def _joined(chosen: _Chosen, keys: Numbers, groups: Rows, least: int) -> Rows:
    """The groups of before, with those joined whose rows share a key and are alike."""
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.r_[True, keys[order][1:] != keys[order][:-1]])
    counts = np.diff(np.r_[starts, len(order)])
    within = np.arange(len(order)) - np.repeat(starts, counts)
    size = np.repeat(counts, counts)
    later = np.where(size <= _SMALL, size - 1 - within, 0)
    edges = [
        _alike(chosen, order[places], order[others], groups, least)
        for places, others in _spread(np.arange(1, len(order) + 1), later)
    ]
    for bucket in np.flatnonzero(counts > _SMALL):
        edges += _alike_in_bucket(chosen, order[starts[bucket] :][: counts[bucket]], groups, least)
    return _connected(len(groups), [np.stack([np.arange(len(groups)), groups]), *edges])


def _alike_in_bucket(chosen: _Chosen, rows: Rows, groups: Rows, least: int) -> list[Pairs]:
    """Pairs that join the rows of a large bucket: each row against all later ones, until all are one group."""
    edges, labels = [], groups[rows]
    # The lowest bytes of equal numbers are equal too, and many at a time are quickly compared.
    ends = np.ascontiguousarray(chosen[rows].astype(np.uint8).T)
    for place, row in enumerate(rows[:-1]):
        found = []
        for start in range(place + 1, len(rows), _BLOCK):
            equal = np.sum(ends[:, start : start + _BLOCK] == ends[:, place, None], axis=0, dtype=np.uint8)
            found.append(start + np.flatnonzero(equal >= least))
        others = np.concatenate(found)
        others = others[labels[others] != labels[place]]
        pairs = _alike(chosen, np.full(len(others), row), rows[others], groups, least)
        if pairs.shape[1]:
            edges.append(pairs)
            labels[np.isin(labels, labels[np.isin(rows, pairs[1])])] = labels[place]
            if np.all(labels == labels[place]):
                break
    return edges


def _alike(chosen: _Chosen, left: Rows, right: Rows, groups: Rows, least: int) -> Pairs:
    """Those of the pairs that are alike and not yet in one group, int64 [2, K]."""
    apart = groups[left] != groups[right]
    left, right = left[apart], right[apart]
    alike = np.count_nonzero(chosen[left] == chosen[right], axis=1) >= least
    return np.stack([left[alike], right[alike]])


def joined(partitions: Sequence[Rows]) -> Rows:
    """The number of the first row that any chain of partitions joins a row with [N]; each numbers first rows itself."""
    if len(partitions) == 1:
        return partitions[0]
    rows = np.arange(len(partitions[0]))
    return _connected(len(rows), [np.stack([rows, partition]) for partition in partitions])


def _connected(count: int, edges: Sequence[Pairs]) -> Rows:
    """The smallest row of each group once the pairs are joined [N]."""
    # Here, because it takes a tenth of a second to import.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    left, right = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones(len(left), dtype=np.bool_), (left, right)), shape=(count, count))
    labels: Numbers = connected_components(graph, directed=False)[1]
    return exact_groups(labels)


def _spread(first: Rows, counts: Rows) -> Iterator[tuple[Rows, Rows]]:
    """Pairs (i, j) for each i and the `counts[i]` numbers from `first[i]` on, some at a time."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, _PAIRS):
        pairs = np.arange(start, min(start + _PAIRS, total))
        left = np.searchsorted(ends, pairs, side="right")
        yield left, first[left] + pairs - (ends - counts)[left]
