"""Labels by the mean of the hidden states, for which transformers has no head: a linear layer of our own.

B examples, S tokens, H hidden size, L labels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.config.classify import Classify
from trainer.config.recipe import Recipe
from trainer.data import targets
from trainer.data.batches import Batch
from trainer.data.corpus import Corpus
from trainer.data.targets import Labels
from trainer.errors import Problem, RecipeError
from trainer.tasks import classify
from trainer.tasks.answering import Answering
from trainer.tasks.classify import Classifier, OfLabels
from trainer.tasks.heads import new_head, read_heads, read_settings
from trainer.tasks.objective import Asked, Predict
from trainer.tasks.reader import mean_of

_NAME = "labels"


class OfMeans(OfLabels):
    """The objective."""

    def __init__(self, settings: Classify, labels: Labels, seed: int = 0) -> None:
        """`seed` draws the head."""
        super().__init__(settings, labels)
        self.seed = seed

    @property
    def labels(self) -> None:
        """None: the model is a body, and the labels are those of our own head."""

    def module(self, model: PreTrainedModel, compute: torch.dtype | None, *, whole: bool) -> nn.Module:
        """As the protocol says."""
        if model.config.is_encoder_decoder:
            message = "means nothing with an encoder-decoder, whose head looks at the end of a text; leave it out"
            raise RecipeError([Problem("task.pooling", message)])
        return PooledClassifier(model, self.settings, self.outputs, self.class_weights, compute, self.seed)

    def heads(self) -> dict[str, Any]:
        """What stands beside the saved body."""
        return {"labels": list(self.names), "task": self.settings.model_dump(mode="json")}

    def restore(self, module: nn.Module, folder: Path) -> None:
        """Fills the head with the weights of a finished run."""
        assert isinstance(module, PooledClassifier), "the objective made it"
        read_heads(folder, module.heads)


class PooledClassifier(Classifier):
    """A body with a linear layer on the mean of the hidden states, and the loss of its labels."""

    def __init__(
        self,
        model: PreTrainedModel,
        settings: Classify,
        outputs: int,
        class_weights: torch.Tensor | None = None,
        compute: torch.dtype | None = None,
        seed: int = 0,
    ) -> None:
        """`compute`: the type of products where weights have another; `class_weights` [L]; `seed` draws the head."""
        super().__init__(model, settings, class_weights, compute)
        spread = getattr(model.config, "initializer_range", 0.02)
        head = new_head(model.config.hidden_size, outputs, spread, seed, next(model.parameters()).dtype)
        self.heads = nn.ModuleDict({_NAME: head})

    def logits(self, batch: Batch) -> torch.Tensor:
        """[B, L]."""
        assert batch.attention_mask is not None, "rows are padded"
        logits: torch.Tensor = self.heads[_NAME](
            mean_of(self.model(**self.inputs(batch)).last_hidden_state, batch.attention_mask)
        )
        return logits


class PooledModel(Answering):
    """What a run with `task.pooling: mean` made: a body with its head and its tokenizer.

    model = PooledModel.from_pretrained("runs/classify/model")
    model.predict(["scientists baffled by own results"])
    """

    def __init__(
        self, module: PooledClassifier, tokenizer: PreTrainedTokenizerBase, task: Classify, names: Sequence[str]
    ) -> None:
        super().__init__(module, tokenizer)
        self.module, self.task, self.names = module, task, tuple(names)

    @classmethod
    def beside(cls, body: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> "PooledModel":
        """A loaded body with the head of a folder."""
        held = read_settings(folder)
        settings, names = Classify(**held["task"]), held["labels"]
        module = PooledClassifier(body, settings, OfLabels(settings, Labels(tuple(names))).outputs)
        read_heads(folder, module.heads)
        return cls(module, tokenizer, settings, names)

    @torch.inference_mode()
    def told(self, rows: Sequence[Asked]) -> list[dict[str, Any]]:
        """The label of each row and the probability of each, or its number."""
        return classify.told(self.task, self.names, self.module.logits(self.batch(rows)).float())

    def predict(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """The same for texts."""
        return self.told(self.asked(texts))


def objective(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> OfLabels:
    """The objective of a recipe of either pooling; DataError for labels that do not fit."""
    task = recipe.task
    if not isinstance(task, Classify) or task.pooling != "mean":
        return classify.objective(recipe, tokenizer, corpus)
    return OfMeans(task, targets.of_corpus(task, corpus), recipe.train.seed)


def predictor(recipe: Recipe, result: Path, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Predict:
    """What a run of either pooling says to rows."""
    if not isinstance(recipe.task, Classify) or recipe.task.pooling != "mean":
        return classify.predictor(recipe, result, tokenizer, model)
    return PooledModel.beside(model, result, tokenizer).told
