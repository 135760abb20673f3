"""A stream as one of two ranks sees it."""

from pathlib import Path

from data import rows

from trainer.data import steps, tokenizer
from trainer.errors import DataError


def on_this_rank(path: str, folder: str, count: int) -> list[list[int]] | str:
    """The tokens of this rank's micro-batches in each step, or what is wrong with the rows."""
    recipe = rows.recipe(
        Path(path), streaming=True, validation=None, shuffle_buffer=10, max_length=128, too_long="error"
    )
    windows = steps.training(recipe, tokenizer.load(recipe, Path(folder)), None, Path(folder), None)
    try:
        made = [windows.window(step) for step in range(count)]
    except DataError as error:
        return str(error)
    finally:
        windows.close()
    return [[batch.tokens for batch in window.batches] for window in made]
