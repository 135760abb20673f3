"""The label of a text: one of several, any of several, one of an order, or a number.

The head, and where it looks, are those of transformers' `AutoModelForSequenceClassification`: the first token of an
encoder, the last one of a decoder. Shapes: B examples, L labels, S tokens.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.config.classify import Classify
from trainer.config.recipe import Recipe
from trainer.config.relations import Relations
from trainer.data import targets
from trainer.data.batches import IGNORED, Batch, Collate, batch_of
from trainer.data.corpus import Corpus
from trainer.data.encoded import Encoded
from trainer.data.formats import only_images
from trainer.data.packing import Layout
from trainer.data.targets import Labels
from trainer.data.tokenizer import padding_of
from trainer.errors import Problem, RecipeError, did_you_mean
from trainer.model.load import ORDINAL
from trainer.tasks import class_table, label_metrics
from trainer.tasks.class_table import ClassTable
from trainer.tasks.looks import ImagesOf, Looks
from trainer.tasks.objective import OUTPUTS, Asked, Predict
from trainer.tasks.reader import Reader


class OfLabels:
    """The objective."""

    weights: Mapping[str, float] = MappingProxyType({"loss": 1.0})

    settings: Any

    def __init__(self, settings: Classify | Relations, labels: Labels) -> None:
        """RecipeError where `task.class_weights` names no label of the rows."""
        self.settings, self.names, self._targets = settings, labels.names, labels.targets
        self.class_weights = _class_weights(settings, labels)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """As the protocol says."""
        return self.names

    @property
    def outputs(self) -> int:
        """Those of a head: labels of an order have one for each but the highest."""
        return len(self.names) - 1 if self.settings.problem == "ordinal" else len(self.names)

    def loss_of(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Of a head [B, L], summed."""
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        return loss_of(self.settings, weights, logits, labels)

    def outputs_of(self, logits: torch.Tensor, labels: torch.Tensor) -> list[Any]:
        """What `metrics` has to know of each example."""
        return list(zip(logits.cpu().numpy(), labels.cpu().numpy(), strict=True))

    def collate(self, split: str) -> Collate:
        """As the protocol says."""
        targets = self._targets[split]

        def labelled(rows: Sequence[int], examples: Sequence[Encoded], layout: Layout, epoch: int) -> Batch:
            nothing = IGNORED if targets.dtype == np.int64 else np.nan
            own = targets[rows] if rows else np.full_like(targets[:1], nothing)
            return replace(batch_of(examples, layout), labels=torch.from_numpy(own))

        return labelled

    def counts(self, batches: Sequence[Batch]) -> dict[str, float]:
        """As the protocol says: examples, each by its label's weight; of several labels all outputs count alike.

        Of ordinal labels each question counts, as `_ordinal_loss` asks them.
        """
        labels = [batch.labels[real(batch.labels)] for batch in batches if batch.labels is not None]
        if self.settings.problem == "ordinal":
            return {"loss": float(sum((some + 1).clamp(max=len(self.names) - 1).sum() for some in labels))}
        if self.class_weights is not None:
            return {"loss": float(sum(self.class_weights[some].sum() for some in labels))}
        return {"loss": float(sum(some.numel() for some in labels))}

    def module(self, model: PreTrainedModel, compute: torch.dtype | None, *, whole: bool) -> nn.Module:
        """As the protocol says."""
        return Classifier(model, self.settings, self.class_weights, compute)

    def metrics(self, outputs: Sequence[Any]) -> dict[str, float]:
        """As the protocol says."""
        logits, labels = (np.stack(parts) for parts in zip(*outputs, strict=True))
        return label_metrics.measure(self.settings.problem, self._held(logits), labels)

    def _held(self, logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Logits above 0 where one of several labels is as probable as the threshold; others as they are."""
        if self.settings.problem != "multiple":
            return logits
        held: np.ndarray[Any, Any] = logits - math.log(self.settings.threshold / (1 - self.settings.threshold))
        return held

    def classes(self, outputs: Sequence[Any]) -> ClassTable | None:
        """As the protocol says."""
        logits, labels = (np.stack(parts) for parts in zip(*outputs, strict=True))
        if self.settings.problem == "single":
            return class_table.of_single(self.names, labels, logits.argmax(axis=1))
        if self.settings.problem == "ordinal":
            return class_table.of_single(self.names, labels, label_metrics.ordinal(logits).argmax(axis=1))
        if self.settings.problem == "multiple":
            return class_table.of_multiple(self.names, labels > 0.5, self._held(logits) > 0)
        return None


class OfImages(OfLabels):
    """The labels of images."""

    def __init__(self, settings: Classify, labels: Labels, looks: Looks, images: Mapping[str, ImagesOf]) -> None:
        """`images` of each example of the splits."""
        super().__init__(settings, labels)
        self.looks, self.processor, self._images = looks, looks.processor, images

    def collate(self, split: str) -> Collate:
        """As the protocol says; a spare batch holds a blank image."""
        labelled, images_of = super().collate(split), self._images[split]

        def seen(rows: Sequence[int], examples: Sequence[Encoded], layout: Layout, epoch: int) -> Batch:
            more = self.looks.at([image for row in rows for image in images_of(row)])
            return replace(labelled(rows, examples, layout, epoch), more=more)

        return seen


def objective(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> OfLabels:
    """The objective of a recipe; DataError for labels that do not fit."""
    assert isinstance(recipe.task, Classify), "the table names the kind"
    labels = targets.of_corpus(recipe.task, corpus)
    if not only_images(recipe.data):
        return OfLabels(recipe.task, labels)
    images = {split: corpus.images(split).of for split in corpus.rows}
    return OfImages(recipe.task, labels, Looks.of(recipe), images)


def predictor(recipe: Recipe, result: Path, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Predict:
    """The likeliest label and the probability of each; of several labels those above the threshold; or a number."""
    assert isinstance(recipe.task, Classify), "the table names the kind"
    task, names = recipe.task, _names(model)
    module = Classifier(model, task)
    layout = Layout.padded(padding_of(tokenizer))

    looks = Looks.of(recipe) if only_images(recipe.data) else None

    def predict(rows: Sequence[Asked]) -> list[dict[str, Any]]:
        batch = batch_of([row.encoded for row in rows], layout)
        if looks is not None:
            batch = replace(batch, more=looks.at([image for row in rows for image in row.images]))
        return told(task, names, module.logits(batch.to(model.device)).float())

    return predict


def told(task: Classify, names: Sequence[str], logits: torch.Tensor) -> list[dict[str, Any]]:
    """The likeliest label of each example and the probability of each, of logits [B, L]; or a number."""
    problem = task.problem
    if problem == "regression":
        return [{"number": number} for number in logits[:, 0].tolist()]
    chances = _chances(problem, logits).tolist()
    scores = [dict(zip(names, each, strict=True)) for each in chances]
    if problem != "multiple":
        return [{"label": max(each, key=each.__getitem__), "scores": each} for each in scores]
    return [{"labels": [name for name in names if each[name] > task.threshold], "scores": each} for each in scores]


def _names(model: PreTrainedModel) -> list[str]:
    """The labels of a finished model."""
    own = [model.config.id2label[number] for number in range(model.config.num_labels)]
    return list(getattr(model.config, ORDINAL, None) or own)


def _chances(problem: str, logits: torch.Tensor) -> torch.Tensor:
    """The probability of each label [B, L]."""
    if problem == "ordinal":
        return torch.from_numpy(label_metrics.ordinal(logits.cpu().numpy()))
    return logits.softmax(dim=1) if problem == "single" else logits.sigmoid()


def _class_weights(settings: Classify | Relations, labels: Labels) -> torch.Tensor | None:
    """What an example counts by its label, float32 [L]."""
    if settings.class_weights == "none":
        return None
    if settings.class_weights == "balanced":
        counts = np.bincount(labels.targets["train"], minlength=len(labels.names))
        return torch.tensor(counts.sum() / (len(counts) * np.maximum(counts, 1)), dtype=torch.float32)
    for name in settings.class_weights:
        if name not in labels.names:
            message = f"{name} is no label of the training rows{did_you_mean(name, labels.names)}"
            raise RecipeError([Problem("task.class_weights", message)])
    return torch.tensor([settings.class_weights.get(name, 1.0) for name in labels.names])


def real(labels: torch.Tensor) -> torch.Tensor:
    """Which examples are real [B]: that of a spare batch is not."""
    if labels.dtype == torch.int64:
        return labels != IGNORED
    return ~labels.reshape(len(labels), -1).isnan().any(dim=1)


def loss_of(
    settings: Classify, class_weights: torch.Tensor | None, logits: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Summed over the examples [B, L]; the sum over none is 0, and still has a gradient."""
    if settings.problem == "regression":
        return functional.mse_loss(logits[:, 0], labels, reduction="sum")
    if settings.problem == "multiple":
        return functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    if settings.problem == "ordinal":
        return _ordinal_loss(logits, labels)
    smoothing = settings.label_smoothing
    if settings.focal == 0.0:
        return functional.cross_entropy(logits, labels, class_weights, reduction="sum", label_smoothing=smoothing)
    each = functional.cross_entropy(logits, labels, class_weights, reduction="none", label_smoothing=smoothing)
    sure = logits.softmax(dim=1).gather(1, labels[:, None])[:, 0]
    return ((1 - sure) ** settings.focal * each).sum()


def _ordinal_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Is the label above the lowest one, then above the next, until it is not: CORN (Shi, Cao and Raschka 2021).

    Logits [B, L - 1]; summed over the questions, of which a label has as many as lead to its answer.
    """
    places = torch.arange(logits.shape[1], device=logits.device)
    asked = labels[:, None] >= places
    each = functional.binary_cross_entropy_with_logits(
        logits, (labels[:, None] > places).to(logits.dtype), reduction="none"
    )
    return (each * asked).sum()


class Classifier(Reader):
    """A model of transformers with a head for labels, and its loss."""

    def __init__(
        self,
        model: PreTrainedModel,
        settings: Classify,
        class_weights: torch.Tensor | None = None,
        compute: torch.dtype | None = None,
    ) -> None:
        """`compute`: the type of products where weights have another; `class_weights` [L]."""
        super().__init__(model, compute)
        self.class_weights: torch.Tensor | None
        self.settings = settings
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Any]:
        """The summed loss, a float32 scalar; in evaluation mode the logits [L] and the label of each example too."""
        assert batch.labels is not None, "the rows have labels"
        with self.precision(batch.input_ids.device):
            logits = self.logits(batch).float()
        there = real(batch.labels)
        logits, labels = logits[there], batch.labels[there]
        terms = {"loss": loss_of(self.settings, self.class_weights, logits, labels)}
        if self.training:
            return terms
        return {**terms, OUTPUTS: list(zip(logits.cpu().numpy(), labels.cpu().numpy(), strict=True))}

    def logits(self, batch: Batch) -> torch.Tensor:
        """The outputs of the model's own head [B, L]."""
        if "pixel_values" in batch.more:
            seen: torch.Tensor = self.model(pixel_values=batch.more["pixel_values"]).logits
            return seen
        logits: torch.Tensor = self.model(**self.inputs(batch)).logits
        return logits

    def shown(self, batch: Batch) -> torch.Tensor:
        """As the class says."""
        return self.logits(batch)
