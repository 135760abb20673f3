"""How two entities of a text are related: a linear layer on the hidden states at both start marks.

Baldini Soares et al. 2019, "Matching the Blanks": entity markers with entity start pooling.

B examples, S tokens, H hidden size, L labels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.config.data import Source
from trainer.config.recipe import Recipe
from trainer.config.relations import MARKERS, Relations
from trainer.data import targets
from trainer.data.batches import Batch
from trainer.data.corpus import Corpus
from trainer.data.formats import parse
from trainer.data.row import Row
from trainer.data.targets import Labels
from trainer.errors import DataError, Problem, RecipeError
from trainer.tasks.answering import Answering
from trainer.tasks.classify import OfLabels, real
from trainer.tasks.heads import new_head, read_heads, read_settings
from trainer.tasks.objective import OUTPUTS, Asked, Predict
from trainer.tasks.reader import Reader

_NAME = "relations"


class OfRelations(OfLabels):
    """The objective."""

    def __init__(self, settings: Relations, labels: Labels, starts: tuple[int, int], seed: int = 0) -> None:
        """`starts` are the tokens that mark the beginning of both entities."""
        super().__init__(settings, labels)
        self.starts, self.seed = starts, seed
        if settings.no_relation is not None and settings.no_relation not in labels.names:
            message = f"{settings.no_relation} is no label of the training rows; name one, or leave it out"
            raise RecipeError([Problem("task.no_relation", message)])

    def loss_of(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Of a head [B, L], summed."""
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        return functional.cross_entropy(logits, labels, weights, reduction="sum")

    @property
    def labels(self) -> None:
        """None: the model is a body, and the labels are those of our own head."""

    def module(self, model: PreTrainedModel, compute: torch.dtype | None, *, whole: bool) -> nn.Module:
        """As the protocol says."""
        if type(model.config) not in MODEL_FOR_MASKED_LM_MAPPING:
            message = f"is a {model.config.model_type}, whose marks do not see the text after them"
            raise RecipeError([Problem("model.name", f"{message}; name an encoder such as a BERT")])
        return RelationClassifier(model, self.starts, len(self.names), self.class_weights, compute, self.seed)

    def metrics(self, outputs: Sequence[Any]) -> dict[str, float]:
        """F1, precision and recall over all relations but `task.no_relation`, as of TACRED (Zhang et al. 2017)."""
        from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

        logits, labels = (np.stack(parts) for parts in zip(*outputs, strict=True))
        said, none = logits.argmax(axis=1), self.settings.no_relation
        counted = [number for number, name in enumerate(self.names) if name != none]
        micro = {"labels": counted, "average": "micro", "zero_division": 0.0}
        precision, recall, f1, _ = precision_recall_fscore_support(labels, said, **micro)
        macro = f1_score(labels, said, labels=counted, average="macro", zero_division=0.0)
        found = {"f1": f1, "precision": precision, "recall": recall, "macro_f1": macro}
        return {name: float(value) for name, value in {**found, "accuracy": accuracy_score(labels, said)}.items()}

    def heads(self) -> dict[str, Any]:
        """What stands beside the saved body."""
        return {"labels": list(self.names), "markers": list(MARKERS), "no_relation": self.settings.no_relation}

    def restore(self, module: nn.Module, folder: Path) -> None:
        """Fills the head with the weights of a finished run."""
        assert isinstance(module, RelationClassifier), "the objective made it"
        read_heads(folder, module.heads)


def objective(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> OfRelations:
    """The objective of a recipe; DataError for labels that do not fit."""
    assert isinstance(recipe.task, Relations), "the table names the kind"
    labels = targets.of_corpus(recipe.task, corpus)
    return OfRelations(recipe.task, labels, starts_of(tokenizer), recipe.train.seed)


def starts_of(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """The tokens that mark the beginning of both entities."""
    head, tail = (int(tokenizer.convert_tokens_to_ids(MARKERS[place])) for place in (0, 2))
    return head, tail


class RelationClassifier(Reader):
    """A body with a head for relations, and its loss."""

    def __init__(
        self,
        model: PreTrainedModel,
        starts: tuple[int, int],
        outputs: int,
        class_weights: torch.Tensor | None = None,
        compute: torch.dtype | None = None,
        seed: int = 0,
    ) -> None:
        """`compute`: the type of products where weights have another; `class_weights` [L]; `seed` draws the head."""
        super().__init__(model, compute)
        self.class_weights: torch.Tensor | None
        self.starts = starts
        spread = getattr(model.config, "initializer_range", 0.02)
        head = new_head(2 * model.config.hidden_size, outputs, spread, seed, next(model.parameters()).dtype)
        self.heads = nn.ModuleDict({_NAME: head})
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Any]:
        """The summed loss, a float32 scalar; in evaluation mode the logits [L] and the label of each example too."""
        assert batch.labels is not None, "the rows have labels"
        with self.precision(batch.input_ids.device):
            logits = self.logits(batch).float()
        there = real(batch.labels)
        logits, labels = logits[there], batch.labels[there]
        terms = {"loss": functional.cross_entropy(logits, labels, self.class_weights, reduction="sum")}
        if self.training:
            return terms
        return {**terms, OUTPUTS: list(zip(logits.cpu().numpy(), labels.cpu().numpy(), strict=True))}

    def logits(self, batch: Batch) -> torch.Tensor:
        """[B, L]."""
        hidden = self.model(**self.inputs(batch)).last_hidden_state
        logits: torch.Tensor = self.heads[_NAME](at_starts(hidden, batch.input_ids, self.starts))
        return logits

    def shown(self, batch: Batch) -> torch.Tensor:
        """As the class says."""
        return self.logits(batch)


def at_starts(hidden: torch.Tensor, input_ids: torch.Tensor, starts: tuple[int, int]) -> torch.Tensor:
    """The hidden states [B, S, H] at both start marks [B, 2H]; a text without a mark has its first token there."""
    rows = torch.arange(len(hidden), device=hidden.device)
    places = [(input_ids == start).int().argmax(dim=1) for start in starts]
    return torch.cat([hidden[rows, place] for place in places], dim=1)


class RelationModel(Answering):
    """What a finished run made: a body, its head and its tokenizer.

    model = RelationModel.from_pretrained("runs/relations/model")
    model.predict([{"text": "Ada was born in London.", "head": [0, 3], "tail": [16, 22]}])
    """

    def __init__(self, module: RelationClassifier, tokenizer: PreTrainedTokenizerBase, labels: Sequence[str]) -> None:
        super().__init__(module, tokenizer)
        self.module, self.labels = module, tuple(labels)

    @classmethod
    def beside(cls, body: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> "RelationModel":
        """A loaded body with the head of a folder."""
        labels = read_settings(folder)["labels"]
        module = RelationClassifier(body, starts_of(tokenizer), len(labels))
        read_heads(folder, module.heads)
        return cls(module, tokenizer, labels)

    @torch.inference_mode()
    def scores(self, rows: Sequence[Asked]) -> torch.Tensor:
        """The probability of each label [B, L] for texts whose entities stand between the marks."""
        return self.module.logits(self.batch(rows)).float().softmax(dim=1)

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """The relation in each row {text, head, tail}; DataError for a wrong one."""
        return [self.labels[number] for number in self.scores(self.asked(marked(rows))).argmax(dim=1).tolist()]


def marked(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The text of each row {text, head, tail} with marks around both entities; DataError for a wrong one."""
    source, texts = Source(path="rows", format="relation"), []
    for number, row in enumerate(rows, start=1):
        example = parse(Row("rows", number, row), source, answered=False)
        if isinstance(example, Problem):
            raise DataError([example])
        texts.append(example.pieces[0].text)
    return texts


def told(names: Sequence[str], chances: torch.Tensor) -> list[dict[str, Any]]:
    """The likeliest relation of each example and the probability of each, of those [B, L]."""
    scores = [dict(zip(names, each, strict=True)) for each in chances.tolist()]
    return [{"relation": max(each, key=each.__getitem__), "scores": each} for each in scores]


def predictor(recipe: Recipe, result: Path, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Predict:
    """The likeliest relation, and the probability of each."""
    related = RelationModel.beside(model, result, tokenizer)

    def predict(rows: Sequence[Asked]) -> list[dict[str, Any]]:
        return told(related.labels, related.scores(rows))

    return predict
