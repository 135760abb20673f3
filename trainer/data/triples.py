"""Triples of a knowledge graph: from a row to those that are written, and from them to lines of text."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trainer.data.example import Example, question_and_answer
from trainer.data.fields import Fields, Wrong, json_of, kind_of, names, scalar_of, text_of

Triple = tuple[str, str, str]
PARTS = ("head", "relation", "tail")


@dataclass(frozen=True, slots=True)
class Triples:
    """Triples in the order in which they are written, nearest first where they surround an entity."""

    triples: tuple[Triple, ...]
    names: Mapping[str, str]
    """What entities and relations are called, by what the triples call them."""
    descriptions: Mapping[str, str]
    """What is said of an entity where it first stands."""

    def head(self) -> str:
        """Nothing stands above triples."""
        return ""

    def lines(self) -> list[str]:
        """`head | relation | tail`, each with its line end."""
        told: set[str] = set()
        lines = []
        for head, relation, tail in self.triples:
            parts = (self._entity(head, told), self.names.get(relation, relation), self._entity(tail, told))
            lines.append(" | ".join(" ".join(part.split("\n")) for part in parts) + "\n")
        return lines

    def texts(self) -> Iterator[str]:
        """The parts of the triples, then names and descriptions."""
        for triple in self.triples:
            yield from triple
        yield from self.names.values()
        yield from self.descriptions.values()

    def with_text(self, change: Callable[[str], str]) -> "Triples":
        """The same with each of these changed."""
        return Triples(
            tuple((change(head), change(relation), change(tail)) for head, relation, tail in self.triples),
            {change(entity): change(name) for entity, name in self.names.items()},
            {change(entity): change(said) for entity, said in self.descriptions.items()},
        )

    def _entity(self, entity: str, told: set[str]) -> str:
        name = self.names.get(entity, entity)
        if entity in told or entity not in self.descriptions:
            return name
        told.add(entity)
        return f"{name} ({self.descriptions[entity]})"


def triples(fields: Fields) -> Example:
    """`triples`, or one in `head`, `relation` and `tail`; then `question`, and `answer`, which is learned."""
    row = fields.row
    found = _triples(fields)
    if fields.source.entity is not None:
        found = _around(found, _entity(fields, fields.source.entity), fields.source.hops)
    used = {part for triple in found for part in triple}
    written = Triples(tuple(found), _mapping(fields, "names", used), _mapping(fields, "descriptions", used))
    pieces = question_and_answer(fields.text_or_none("question"), fields.answer("answer"))
    return Example(row.source, row.line, pieces=pieces, listing=written, columns=row.values)


def _triples(fields: Fields) -> list[Triple]:
    if fields.of_either(("triples",), PARTS) == PARTS:
        return [_triple("", [fields.value(part) for part in PARTS], [fields.column(part) for part in PARTS])]
    column = fields.column("triples")
    found = json_of(column, fields.value("triples"), "a list of [head, relation, tail]")
    if not isinstance(found, list):
        raise Wrong(f"{column} is {kind_of(found)}, not a list of [head, relation, tail]")
    if not found:
        raise Wrong(f"{column} is an empty list; it needs at least one triple")
    made = []
    for index, triple in enumerate(found):
        place = f"{column}.{index}"
        parts = [triple.get(part) for part in PARTS] if isinstance(triple, dict) else triple
        if not isinstance(parts, list) or len(parts) != len(PARTS):
            raise Wrong(f"{place} is not [head, relation, tail]")
        made.append(_triple(f"{place}.", parts, list(PARTS)))
    return made


def _triple(place: str, parts: list[Any], columns: list[str]) -> Triple:
    head, relation, tail = (scalar_of(f"{place}{column}", part) for column, part in zip(columns, parts, strict=True))
    return head, relation, tail


def _entity(fields: Fields, column: str) -> str:
    if column not in fields.row.values:
        found = f"has no {column}; it has {names(fields.row.values)}"
        raise Wrong(f"{found}; mend {fields.key}.entity, which names the column of the entity")
    return scalar_of(column, fields.row.values[column])


def _around(found: list[Triple], entity: str, hops: int) -> list[Triple]:
    """The triples that stand within so many hops of an entity, nearest first, else in their order."""
    reached, order, left = {entity}, [], found
    for _ in range(hops):
        near = [triple for triple in left if triple[0] in reached or triple[2] in reached]
        if not near:
            break
        left = [triple for triple in left if triple[0] not in reached and triple[2] not in reached]
        reached |= {end for triple in near for end in (triple[0], triple[2])}
        order += near
    if not order:
        raise Wrong(f"the entity {entity!r} stands in none of the triples")
    return order


def _mapping(fields: Fields, name: str, used: set[str]) -> dict[str, str]:
    """The entries of `names` or `descriptions` that the triples use; empty where the row has none."""
    if not fields.has(name):
        return {}
    column = fields.column(name)
    found = json_of(column, fields.value(name), "an object {entity: text}")
    if not isinstance(found, dict):
        raise Wrong(f"{column} is {kind_of(found)}, not an object {{entity: text}}")
    return {key: text_of(f"{column}.{key}", value) for key, value in found.items() if key in used and value is not None}
