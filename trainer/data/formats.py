"""From a row to what it says, by the format of its source; knows no tokenizer."""

from collections.abc import Callable, Mapping, Sequence

from trainer.config.data import Data, Format, Source
from trainer.data.chat import chat
from trainer.data.entities import entities
from trainer.data.example import Example, Piece
from trainer.data.fields import FIELDS, Fields, Wrong
from trainer.data.image_text import image, image_text
from trainer.data.pair import pair
from trainer.data.ranking import ranking
from trainer.data.relation import relation
from trainer.data.row import Row
from trainer.data.sources import test_sources, train_sources, validation_sources
from trainer.data.table import table
from trainer.data.triple import triple
from trainer.data.triples import triples
from trainer.data.words import words
from trainer.errors import Problem, RecipeError, did_you_mean

__all__ = ["FIELDS", "Example", "Piece", "check_fields", "formats_of", "parse"]


def check_fields(data: Data) -> None:
    """RecipeError where `fields` names a field that its format does not have."""
    problems = [
        Problem(
            f"{key}.fields",
            f"{name} is not a field of the format {source.format}" + did_you_mean(name, FIELDS[source.format]),
        )
        for key, source in (*_sources(data), *_numbered("data.clean.benchmarks", data.clean.benchmarks))
        for name in source.fields
        if name not in FIELDS[source.format]
    ]
    if problems:
        raise RecipeError(problems)


def formats_of(data: Data) -> set[Format]:
    """The formats of all rows that become tokens."""
    return {source.format for _, source in _sources(data)}


def only_images(data: Data) -> bool:
    """Whether rows are images without a text, which no tokenizer reads."""
    return formats_of(data) == {"image"}


def parse(row: Row, source: Source, key: str = "data.train.0", *, answered: bool = True) -> Example | Problem:
    """What one row says, or the first thing that is wrong; unless `answered` it need not say what is learned."""
    try:
        return _PARSERS[source.format](Fields(row, source, key, answered))
    except Wrong as wrong:
        return row.bad(str(wrong))


def _sources(data: Data) -> list[tuple[str, Source]]:
    """Every source whose rows become tokens, with its key."""
    unlabelled = data.pseudo_label.rows if data.pseudo_label else ()
    named = [*train_sources(data), *validation_sources(data), *test_sources(data)]
    return [*named, *_numbered("data.pseudo_label.rows", unlabelled)]


def _numbered(key: str, sources: Sequence[Source]) -> list[tuple[str, Source]]:
    return [(f"{key}.{index}", source) for index, source in enumerate(sources)]


def _completion(fields: Fields) -> Example:
    row = fields.row
    prompt = Piece(fields.text("prompt"), learned=False)
    pieces = (prompt, Piece(fields.text("completion"), learned=True)) if fields.answered else (prompt,)
    return Example(row.source, row.line, pieces=pieces, columns=row.values)


def _plain_text(fields: Fields) -> Example:
    row = fields.row
    return Example(row.source, row.line, pieces=(Piece(fields.text("text"), learned=True),), columns=row.values)


def _instruction(fields: Fields) -> Example:
    row = fields.row
    instruction, more = fields.text("instruction"), fields.text_or_none("input")
    messages = [{"role": "user", "content": f"{instruction}\n\n{more}" if more else instruction}]
    if fields.answered:
        messages.append({"role": "assistant", "content": fields.text("output")})
    return Example(row.source, row.line, messages=tuple(messages), columns=row.values)


_PARSERS: Mapping[str, Callable[[Fields], Example]] = {
    "completion": _completion,
    "instruction": _instruction,
    "chat": chat,
    "text": _plain_text,
    "pair": pair,
    "table": table,
    "triples": triples,
    "words": words,
    "entities": entities,
    "relation": relation,
    "triple": triple,
    "ranking": ranking,
    "image": image,
    "image_text": image_text,
}
