"""Rows that a suite makes for itself, so that their number, length and vocabulary are what it says."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from trainer.bench.suite import MadeRows
from trainer.plan.files import write_lines

_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]


def write(made: MadeRows, seed: int, folder: Path) -> Path:
    """The file of these rows in a folder, written unless it is there."""
    asked = f"-asked-{made.asked}" if made.asked else ""
    path = folder / f"rows-{made.count}x{made.words}{asked}-of-{made.vocabulary}-seed-{seed}.jsonl"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_lines(path, lines(made, seed))
    return path


def lines(made: MadeRows, seed: int) -> Iterator[str]:
    """The rows as JSON; each word comes as often as the others, in an order of the seed."""
    draw = random.Random(seed)
    words = [word(number) for number in range(made.vocabulary)]
    waiting: list[str] = []
    for _ in range(made.count):
        while len(waiting) < made.words:
            draw.shuffle(words)
            waiting += words
        row = waiting[: made.words]
        del waiting[: made.words]
        parts = [" ".join(row[: made.asked]), " ".join(row[made.asked :])]
        turns = [{"role": role, "content": part} for role, part in zip(("user", "assistant"), parts, strict=True)]
        yield json.dumps({"messages": turns} if made.asked else {"text": parts[1]})


def word(number: int) -> str:
    """The word of a number; different numbers have different words."""
    made = ""
    while True:
        number, syllable = divmod(number, len(_SYLLABLES))
        made += _SYLLABLES[syllable]
        if number == 0:
            return made
        number -= 1
