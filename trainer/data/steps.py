"""The optimizer steps of a run on this rank, from its recipe and its rows."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer import ranks
from trainer.config.recipe import Recipe
from trainer.data.batches import Ahead, Collate, Steps, Streamed, Windows
from trainer.data.encode import Encoder
from trainer.data.members import weights_of
from trainer.data.packing import Layout
from trainer.data.preparation import CHOSEN, SHOWN
from trainer.data.split import Split
from trainer.data.stream import Position, Stream
from trainer.data.tokenizer import padding_of
from trainer.plan.batch import row_tokens

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase


def training(
    recipe: Recipe,
    tokenizer: "PreTrainedTokenizerBase",
    split: Split | None,
    folder: Path,
    position: Any,
    collate: Collate | None = None,
) -> Steps:
    """The steps over the training rows; without a split they are a stream, from a position on that a window told."""
    shape = layout(recipe, tokenizer)
    if split is None:
        start = Position() if position is None else Position(**position)
        stream = None
        if ranks.is_main():
            told = _lines(folder / "data" / CHOSEN / SHOWN[0])
            stream = Stream(recipe, Encoder(recipe, tokenizer), folder / SHOWN[0], start, told=told)
        return Streamed(stream, shape, rank=ranks.rank(), ranks=ranks.world_size())
    seed = recipe.train.seed if recipe.data.shuffle else None
    weights = weights_of(recipe, split)
    rank, of_all = ranks.rank(), ranks.world_size()
    return Ahead(Windows(split, shape, rank=rank, ranks=of_all, seed=seed, weights=weights, collate=collate))


def held_out(
    recipe: Recipe,
    tokenizer: "PreTrainedTokenizerBase",
    splits: Mapping[str, Split | None],
    collate: Callable[[str], Collate],
) -> dict[str, Windows]:
    """The rows of each split once, in their order, as far as there are any."""
    shape = layout(recipe, tokenizer)
    rank, of_all = ranks.rank(), ranks.world_size()
    return {
        name: Windows(split, shape, rank=rank, ranks=of_all, seed=None, collate=collate(name))
        for name, split in splits.items()
        if split is not None
    }


def _lines(path: Path) -> int:
    """Rows that the preparation left out."""
    if not path.is_file():
        return 0
    with path.open(encoding="utf-8") as file:
        return sum(1 for _ in file)


def layout(recipe: Recipe, tokenizer: "PreTrainedTokenizerBase") -> Layout:
    """How the examples of a step become micro-batches."""
    return Layout(
        global_=recipe.batch.global_,
        global_tokens=recipe.batch.global_tokens,
        micro=recipe.batch.micro,
        packing=recipe.data.packing,
        micro_tokens=row_tokens(recipe),
        pad=padding_of(tokenizer),
        spare=tokenizer.eos_token_id,
    )
