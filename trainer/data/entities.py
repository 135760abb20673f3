"""The words of a sentence, the entities among them, and the relations among those."""

from typing import Any

from trainer.config.joint_relations import RELATIONS
from trainer.config.token_labels import OUTSIDE
from trainer.data.example import Example
from trainer.data.fields import Fields, Wrong, json_of, kind_of, text_of
from trainer.data.words import words_of


def entities(fields: Fields) -> Example:
    """`words`, and where the row is answered `entities` {type, start, end} and `relations` {type, head, tail}.

    An entity is words from `start` to the one before `end`; head and tail are numbers of entities, from 0. The tags of
    the words are BIO, each with the number of its entity after a space.
    """
    row, found = fields.row, words_of(fields)
    if not fields.answered:
        return Example(row.source, row.line, words=found, columns=row.values)
    tags = [OUTSIDE] * len(found)
    held = _objects(fields, "entities", ("type", "start", "end"))
    for number, (place, (kind, start, end)) in enumerate(held):
        if not 0 <= start < end <= len(tags):
            what = "holds no word" if start >= end else f"is outside the sentence, which has {len(tags)} words"
            raise Wrong(f"{place} [{start}, {end}] {what}; the first word is 0, the end is the one after the last")
        taken = next((tag for tag in tags[start:end] if tag != OUTSIDE), None)
        if taken is not None:
            other = taken.rpartition(" ")[2]
            raise Wrong(f"{place} shares a word with entity {other}; a word belongs to one entity at most")
        inside = [f"I-{kind} {number}"] * (end - start - 1)
        tags[start:end] = [f"B-{kind} {number}", *inside]
    relations = list[tuple[int, int, str]]()
    for place, (kind, *ends) in _objects(fields, "relations", ("type", "head", "tail")):
        for name, end in zip(("head", "tail"), ends, strict=True):
            if not 0 <= end < len(held):
                raise Wrong(f"{place}.{name} is {end}, and the row has {len(held)} entities; the first one is 0")
        head, tail = ends
        if head == tail:
            raise Wrong(f"{place} relates entity {head} to itself; head and tail are two")
        relations.append((head, tail, kind))
    columns = {**row.values, RELATIONS: sorted({*relations})}
    return Example(row.source, row.line, words=found, tags=tuple(tags), columns=columns)


def _objects(fields: Fields, name: str, keys: tuple[str, str, str]) -> list[tuple[str, tuple[Any, ...]]]:
    """The place of each object of a list, and what stands in its keys: a text and two numbers."""
    column = fields.column(name)
    found = json_of(column, fields.value(name), f"a list of {name}")
    if not isinstance(found, list):
        raise Wrong(f"{column} is {kind_of(found)}, not a list of {name}")
    made = []
    for index, each in enumerate(found):
        place = f"{column}.{index}"
        if not isinstance(each, dict):
            raise Wrong(f"{place} is {kind_of(each)}, not an object with {', '.join(keys)}")
        missing = [key for key in keys if key not in each]
        if missing:
            raise Wrong(f"{place} has no {missing[0]}; it needs {', '.join(keys)}")
        kind, *numbers = (each[key] for key in keys)
        for key, number in zip(keys[1:], numbers, strict=True):
            if type(number) is not int:
                raise Wrong(f"{place}.{key} is {kind_of(number)}, not a whole number")
        made.append((place, (text_of(f"{place}.{keys[0]}", kind), *numbers)))
    return made
