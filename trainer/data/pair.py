"""Two or more texts of one row, such as a premise and a hypothesis, and their label."""

from trainer.data.example import Example, Piece
from trainer.data.fields import Fields, Wrong, kind_of, text_of


def pair(fields: Fields) -> Example:
    """`texts`, or `text_a` and `text_b`; then `label`, which is learned on a line of its own."""
    row = fields.row
    if fields.of_either(("texts",), ("text_a", "text_b")) == ("texts",):
        column, texts = fields.column("texts"), fields.value("texts")
        if not isinstance(texts, list) or len(texts) < 2:
            found = f"a list of {len(texts)}" if isinstance(texts, list) else kind_of(texts)
            raise Wrong(f"{column} is {found}, not a list of two or more texts")
        sequences = tuple(text_of(f"{column}.{index}", text) for index, text in enumerate(texts))
    else:
        sequences = (fields.text("text_a"), fields.text("text_b"))
    label = fields.answer("label")
    pieces = () if label is None else (Piece("\n", learned=False), Piece(label, learned=True))
    return Example(row.source, row.line, sequences=sequences, pieces=pieces, columns=row.values)
