"""The tag of each word, read at its first token: one by one, or all of a row together by a conditional random field.

B examples, S tokens, W words, L tags.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.config.recipe import Recipe
from trainer.config.token_labels import TokenLabels
from trainer.data import tags
from trainer.data.batches import IGNORED, Batch, Collate, batch_of
from trainer.data.corpus import Corpus
from trainer.data.encoded import Encoded
from trainer.data.packing import Layout
from trainer.data.tags import Tags
from trainer.model.crf import Crf, allowed_in_bio
from trainer.tasks import tag_metrics
from trainer.tasks.class_table import ClassTable
from trainer.tasks.heads import read_heads
from trainer.tasks.objective import OUTPUTS
from trainer.tasks.reader import Reader

_NAME = "crf"


class OfTags:
    """The objective."""

    weights: Mapping[str, float] = MappingProxyType({"loss": 1.0})

    def __init__(self, settings: TokenLabels, tags: Tags) -> None:
        self.settings, self.names, self._numbers = settings, tags.names, tags.numbers

    @property
    def labels(self) -> tuple[str, ...] | None:
        """As the protocol says."""
        return self.names

    @property
    def outputs(self) -> int:
        """Those of a head."""
        return len(self.names)

    def loss_of(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Of a linear head [B, S, L], summed over the words that labels [B, T] have; S may be more than T."""
        there = labels != IGNORED
        return functional.cross_entropy(logits[:, : labels.shape[1]][there], labels[there], reduction="sum")

    def outputs_of(self, logits: torch.Tensor, labels: torch.Tensor) -> list[Any]:
        """What `metrics` has to know of each example."""
        there = labels != IGNORED
        said = by_rows(logits[:, : labels.shape[1]].argmax(dim=-1)[there], there)
        right = by_rows(labels[there], there)
        return [(one.cpu().numpy(), other.cpu().numpy()) for one, other in zip(said, right, strict=True)]

    def collate(self, split: str) -> Collate:
        """As the protocol says; the labels [B, S] stand at the first token of each word."""
        numbers = self._numbers[split]

        def tagged(rows: Sequence[int], examples: Sequence[Encoded], layout: Layout, epoch: int) -> Batch:
            batch = batch_of(examples, layout)
            labels = torch.full_like(batch.input_ids, IGNORED)
            for place, example in enumerate(examples):
                assert example.marks is not None, "tags are kept as marks"
                labels[place, : len(example.marks)] = torch.from_numpy(numbers[example.marks])
            return replace(batch, labels=labels)

        return tagged

    def counts(self, batches: Sequence[Batch]) -> dict[str, float]:
        """As the protocol says: the words with a tag."""
        return {
            "loss": float(sum(int((batch.labels != IGNORED).sum()) for batch in batches if batch.labels is not None))
        }

    def module(self, model: PreTrainedModel, compute: torch.dtype | None, *, whole: bool) -> nn.Module:
        """As the protocol says."""
        return Tagger(model, self.names, self.settings, compute)

    def metrics(self, outputs: Sequence[Any]) -> dict[str, float]:
        """As the protocol says."""
        return tag_metrics.measure(self.settings.scheme, self.names, outputs)

    def classes(self, outputs: Sequence[Any]) -> ClassTable | None:
        """As the protocol says: of whole entities by their type, or of tags."""
        return tag_metrics.table(self.settings.scheme, self.names, outputs)


class OfPaths(OfTags):
    """The objective of a conditional random field, which is kept beside the model."""

    def heads(self) -> dict[str, Any]:
        """What stands beside the saved model."""
        return {"tags": list(self.names), "scheme": self.settings.scheme}

    def restore(self, module: nn.Module, folder: Path) -> None:
        """Fills the field with the weights of a finished run."""
        assert isinstance(module, Tagger), "the objective made it"
        read_heads(folder, module.heads)


def objective(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> OfTags:
    """The objective of a recipe; DataError for tags that do not fit."""
    assert isinstance(recipe.task, TokenLabels), "the table names the kind"
    made = OfPaths if recipe.task.head == "crf" else OfTags
    return made(recipe.task, tags.of_corpus(recipe.task, corpus))


class Tagger(Reader):
    """A model of transformers with a head for tags, and its loss."""

    def __init__(
        self, model: PreTrainedModel, names: Sequence[str], settings: TokenLabels, compute: torch.dtype | None = None
    ) -> None:
        """`compute`: the type of products where weights have another."""
        super().__init__(model, compute)
        field = Crf(len(names)).to(next(model.parameters()).dtype) if settings.head == "crf" else None
        self.heads = nn.ModuleDict({} if field is None else {_NAME: field})
        self.allowed = allowed_in_bio(names) if settings.scheme == "bio" else None

    def forward(self, batch: Batch) -> dict[str, Any]:
        """The summed loss, a float32 scalar; in evaluation mode what was said [W] and the tags [W] of each example."""
        assert batch.labels is not None, "the rows have tags"
        with self.precision(batch.input_ids.device):
            logits = self.logits(batch).float()
        there = batch.labels != IGNORED
        if self.heads:
            scores, words, places = by_words(logits, there)
            terms = {"loss": self._field().loss(scores, batch.labels.gather(1, places), words)}
        else:
            terms = {"loss": functional.cross_entropy(logits[there], batch.labels[there], reduction="sum")}
        if self.training:
            return terms
        said, right = self.said(logits, there), by_rows(batch.labels[there], there)
        outputs = [(one.cpu().numpy(), other.cpu().numpy()) for one, other in zip(said, right, strict=True)]
        return {**terms, OUTPUTS: outputs[: len(batch.rows)]}

    def said(self, logits: torch.Tensor, there: torch.Tensor) -> list[torch.Tensor]:
        """The tags of each example [W], from the logits [B, S, L] of tokens; `there` [B, S] begins a word."""
        if not self.heads:
            return by_rows(logits.argmax(dim=-1)[there], there)
        scores, words, _ = by_words(logits, there)
        best = self._field().best(scores, words, self.allowed)
        return [row[:length] for row, length in zip(best, there.sum(dim=1).tolist(), strict=True)]

    def logits(self, batch: Batch) -> torch.Tensor:
        """The outputs of the model's own head [B, S, L]."""
        logits: torch.Tensor = self.model(**self.inputs(batch)).logits
        return logits

    def shown(self, batch: Batch) -> torch.Tensor:
        """As the class says."""
        assert batch.attention_mask is not None, "rows are padded"
        return self.logits(batch)[batch.attention_mask.bool()]

    def _field(self) -> Crf:
        field = self.heads[_NAME]
        assert isinstance(field, Crf), "made here"
        return field


def by_words(logits: torch.Tensor, there: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The logits of words [B, W, L], which of them are there [B, W], and the tokens that begin them [B, W].

    Of logits of tokens [B, S, L]; `there` [B, S] begins a word. W is 1 at least.
    """
    lengths = there.sum(dim=1)
    most = max(1, int(lengths.max()))
    places = there.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    words = torch.arange(most, device=there.device) < lengths[:, None]
    return logits.gather(1, places[:, :, None].expand(-1, -1, logits.shape[-1])), words, places


def by_rows(values: torch.Tensor, there: torch.Tensor) -> list[torch.Tensor]:
    """Values of words, one row after the other, as those of each row [W]."""
    ends = there.sum(dim=1).cumsum(dim=0).tolist()
    return [values[start:end] for start, end in zip([0, *ends], ends, strict=False)]
