"""What of a tokenised row the model sees, by `data.max_length` and `data.too_long`."""

from collections.abc import Sequence

import numpy as np

from trainer.config.data import Data, Format
from trainer.data.encoded import Encoded
from trainer.data.example import Example
from trainer.data.row import BadRow, LeftOut
from trainer.data.split import count_targets


def fit(
    data: Data, format: Format, row: Encoded, example: Example, *, learns: bool = True, needed: Sequence[int] = ()
) -> list[Encoded] | BadRow | LeftOut:
    """The examples of a row, several where it is split; else what is wrong with it, or why it is left out.

    `learns`: whether tokens are learned, so that a row without them is of no use; words are shown even then. `needed`
    are tokens that a cut must not take.
    """
    room, length, source, line = data.max_length, row.longest, example.source, example.line
    learns = learns and row.words is None
    if learns and count_targets(row.learned) == 0:
        return LeftOut("nothing learned", source, line, "holds nothing to learn")
    if length <= room:
        return [row]
    longer = f"tokens, more than data.max_length: {room}"
    if data.too_long == "error":
        message = f"has {length:,} {longer}; raise it, or set data.too_long: cut"
        return BadRow.at(source, line, message)
    if data.too_long == "drop":
        return LeftOut("too long", source, line, f"has {length} {longer}", length)
    if data.too_long == "split" and format == "text":
        # What is left at the end may be a single token, which nothing predicts.
        parts = [Encoded(row.tokens[at : at + room], row.learned[at : at + room]) for at in range(0, length, room)]
        return [part for part in parts if count_targets(part.learned)]
    if learns and count_targets(row.cut(room).learned) == 0:
        begins = 1 + int(np.argmax(row.learned[1:]))
        why = f"what is learned begins after {begins} tokens, and data.max_length: {room} cuts it off"
        return LeftOut("learned part cut off", source, line, why, begins)
    cut = row.cut(room)
    if not set(needed) <= set(cut.tokens.tolist()):
        why = f"has {length:,} tokens, and data.max_length: {room} cuts off an entity; raise it"
        return LeftOut("learned part cut off", source, line, why, length)
    if format == "ranking" and _alike(cut.apart()):
        why = f"has candidates of up to {length:,} tokens, and data.max_length: {room} cuts off what tells them apart"
        return LeftOut("learned part cut off", source, line, f"{why}; raise it", room)
    return [cut]


def _alike(texts: Sequence[Encoded]) -> bool:
    return all(np.array_equal(text.tokens, texts[0].tokens) for text in texts[1:])
