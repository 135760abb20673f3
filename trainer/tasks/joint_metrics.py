"""What is measured of entities and relations: both strict, and relations by their borders too (Taillé et al. 2020).

Of N examples, each with its tags that were said and that are right [W], and its relations that were said and that are
right: the words that begin head and tail, and the number of the relation [K, 3].
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from trainer.tasks import tag_metrics
from trainer.tasks.class_table import ClassTable

Entity = tuple[str, int, int]
Link = tuple[int, Entity | None, Entity | None]
"""A relation, its head and its tail."""


def measure(tags: Sequence[str], outputs: Sequence[Any]) -> dict[str, float]:
    """F1, precision and recall of relations, right where the relation and the types and borders of both entities are;
    F1 of relations whatever the types; F1, precision and recall of entities.
    """
    strict, loose, of_entities = (Counter[str]() for _ in range(3))
    for said, right in _sentences(tags, outputs):
        _count(strict, said[1], right[1])
        _count(loose, [_bare(link) for link in said[1]], [_bare(link) for link in right[1]])
        _count(of_entities, said[0], right[0])
    return _scores("", strict) | {"boundaries_f1": _scores("", loose)["f1"]} | _scores("entity_", of_entities)


def table(tags: Sequence[str], relations: Sequence[str], outputs: Sequence[Any]) -> ClassTable:
    """Of relations, as the strict measure counts them."""
    held = [Counter[str]() for _ in relations]
    for said, right in _sentences(tags, outputs):
        for number, counter in enumerate(held):
            _count(counter, *([link for link in links if link[0] == number] for links in (said[1], right[1])))
    scores = [_scores("", counter) for counter in held]
    precision, recall, f1 = (np.array([each[name] for each in scores]) for name in ("precision", "recall", "f1"))
    return ClassTable(tuple(relations), precision, recall, f1, np.array([counter["right"] for counter in held]))


def entities_of(names: Sequence[str], tags: Sequence[int]) -> list[Entity]:
    """Type, first word and the one after the last of each entity of a row, of numbers of tags [W]."""
    return tag_metrics.entities([names[tag] for tag in tags])


def _sentences(
    tags: Sequence[str], outputs: Sequence[Any]
) -> Iterator[tuple[tuple[list[Entity], list[Link]], tuple[list[Entity], list[Link]]]]:
    """What is said of each example, and what is right."""
    for said, right, said_links, right_links in outputs:
        yield _read(tags, said, said_links), _read(tags, right, right_links)


def _read(names: Sequence[str], tags: Sequence[int], links: Sequence[Sequence[int]]) -> tuple[list[Entity], list[Link]]:
    entities = entities_of(names, tags)
    at = {start: (kind, start, end) for kind, start, end in entities}
    return entities, [(relation, at.get(head), at.get(tail)) for head, tail, relation in links]


def _bare(link: Link) -> tuple[Any, ...]:
    relation, *ends = link
    return (relation, *(end and end[1:] for end in ends))


def _count(counter: Counter[str], said: Sequence[Any], right: Sequence[Any]) -> None:
    counter.update(said=len(said), right=len(right), both=len({*said} & {*right}))


def _scores(prefix: str, counter: Counter[str]) -> dict[str, float]:
    both, said, right = counter["both"], counter["said"], counter["right"]
    found = {"f1": 2 * both / max(1, said + right), "precision": both / max(1, said), "recall": both / max(1, right)}
    return {f"{prefix}{name}": value for name, value in found.items()}
