"""What finished runs with heads of our own share: a body, its heads, its tokenizer, and rows as runs read them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from transformers import AutoModel, AutoTokenizer, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.config.load import recipe_of
from trainer.data.batches import Batch, batch_of
from trainer.data.encode import Encoder
from trainer.data.encoded import Encoded
from trainer.data.example import Example, Piece
from trainer.data.packing import Layout
from trainer.data.tokenizer import padding_of
from trainer.tasks.objective import Asked
from trainer.tasks.reader import Reader

_READS: dict[str, Any] = {
    "model": {"name": "-"},
    "task": {"kind": "classify"},
    "data": {"train": [{"path": "-", "format": "text"}]},
}


class Answering:
    """A module in evaluation mode and its tokenizer."""

    body: ClassVar[Any] = AutoModel
    """What transformers loads of the folder."""

    def __init__(self, module: Reader, tokenizer: PreTrainedTokenizerBase) -> None:
        module.eval().to(module.model.device)
        self.tokenizer, self.device = tokenizer, module.model.device
        self.layout = Layout.padded(padding_of(tokenizer))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """The model of a folder that a run saved; OSError where it holds none."""
        place = Path(folder)
        return cls.beside(cls.body.from_pretrained(place), place, AutoTokenizer.from_pretrained(place))

    @classmethod
    def beside(cls, body: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> Self:
        """A loaded body with the heads of a folder."""
        raise NotImplementedError

    def asked(self, rows: Sequence[str | Sequence[str]]) -> list[Asked]:
        """Texts, or lists of words, with their tokens; RecipeError for a tokenizer that is not a fast one."""
        made = [_example(row) for row in rows]
        encoded = Encoder(recipe_of(_READS), self.tokenizer).encode(made)
        # Only chat templates refuse a row.
        return [Asked(row, words=one.words) for row, one in zip(encoded, made, strict=True) if isinstance(row, Encoded)]

    def batch(self, rows: Sequence[Asked]) -> Batch:
        """All of them side by side, where the model is."""
        return batch_of([row.encoded for row in rows], self.layout).to(self.device)


def _example(row: str | Sequence[str]) -> Example:
    if isinstance(row, str):
        return Example("", 0, pieces=(Piece(row, learned=False),))
    return Example("", 0, words=tuple(row))
