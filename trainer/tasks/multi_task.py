"""Several tasks on one body: each has a head of its own, a linear layer on hidden states.

B examples, H hidden size; the rows of a task in a batch are b.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.config.classify import Classify
from trainer.config.multi_task import MultiTask, main_metric
from trainer.config.recipe import Recipe
from trainer.config.relations import Relations
from trainer.config.token_labels import TokenLabels
from trainer.data import tags, targets
from trainer.data.batches import Batch, Collate, batch_of
from trainer.data.corpus import Corpus
from trainer.data.encoded import Encoded
from trainer.data.facts import Numbers
from trainer.data.members import member_of
from trainer.data.packing import Layout
from trainer.errors import Problem, RecipeError
from trainer.tasks.class_table import ClassTable
from trainer.tasks.classify import OfLabels
from trainer.tasks.heads import new_head, read_heads
from trainer.tasks.objective import OUTPUTS
from trainer.tasks.reader import Reader, mean_of
from trainer.tasks.relations import OfRelations, at_starts, starts_of
from trainer.tasks.token_labels import OfTags

One = OfLabels | OfTags
VARIANCES = "variances"
"""Beside the heads: the logarithm of the variance of each task, in the order of their names."""


class OfSeveral:
    """The objective."""

    labels = None

    def __init__(
        self, settings: MultiTask, members: Mapping[str, One], places: Mapping[str, Mapping[str, Numbers]], seed: int
    ) -> None:
        """`places` are, by task and split, the numbers there of the examples of the whole; -1 for those of others."""
        self.settings, self.members, self._places, self.seed = settings, members, places, seed
        self.weights: Mapping[str, float] = {name: settings.weights.get(name, 1.0) for name in members}

    def collate(self, split: str) -> Collate:
        """As the protocol says; beside the tokens stand rows, labels and count of each task."""
        collates = {name: member.collate(split) for name, member in self.members.items()}

        def mixed(rows: Sequence[int], examples: Sequence[Encoded], layout: Layout, epoch: int) -> Batch:
            more = {}
            for name, collate in collates.items():
                places = self._places[name][split][np.array(rows, dtype=np.int64)]
                mine = np.flatnonzero(places >= 0)
                own = collate(places[mine].tolist(), [examples[place] for place in mine.tolist()], layout, epoch)
                assert own.labels is not None, "its rows have labels"
                more[f"{name}.rows"] = torch.from_numpy(mine)
                more[f"{name}.labels"] = own.labels
                more[f"{name}.count"] = torch.tensor([self.members[name].counts([own])["loss"]])
            return replace(batch_of(examples, layout), more=more)

        return mixed

    def counts(self, batches: Sequence[Batch]) -> dict[str, float]:
        """As the protocol says: those of each task."""
        return {name: float(sum(float(batch.more[f"{name}.count"]) for batch in batches)) for name in self.members}

    def module(self, model: PreTrainedModel, compute: torch.dtype | None, *, whole: bool) -> nn.Module:
        """As the protocol says."""
        if type(model.config) not in MODEL_FOR_MASKED_LM_MAPPING or model.config.is_encoder_decoder:
            message = f"is a {model.config.model_type}, whose tokens do not see the text after them"
            raise RecipeError([Problem("model.name", f"{message}; name an encoder such as a BERT")])
        learned = self.settings.balance == "uncertainty"
        return SharedBody(model, self.members, compute, self.seed, learned=learned)

    def metrics(self, outputs: Sequence[Any]) -> dict[str, float]:
        """As the protocol says: those of each task, and the mean over tasks of what each is judged by."""
        found, main = dict[str, float](), []
        for name, member in self.members.items():
            own = [output for task, output in outputs if task == name]
            measured = member.metrics(own) if own else {}
            found |= {f"{name}.{metric}": value for metric, value in measured.items()}
            main.append(measured.get(main_metric(self.settings.tasks[name])))
        judged = [value for value in main if value is not None]
        return {"mean": float(np.mean(judged)), **found} if len(judged) == len(main) else found

    def of_means(self, means: Mapping[str, float]) -> dict[str, float]:
        """As the protocol says: the loss of each task."""
        return {f"{name}.loss": value for name, value in means.items()}

    def classes(self, outputs: Sequence[Any]) -> ClassTable | None:
        """As the protocol says: the labels of all tasks one below the other."""
        tables = []
        for name, member in self.members.items():
            own = [output for task, output in outputs if task == name]
            table = member.classes(own) if own else None
            if table is not None:
                tables.append(replace(table, names=tuple(f"{name}: {label}" for label in table.names), confusion=None))
        if not tables:
            return None
        columns = {
            column: np.concatenate([getattr(table, column) for table in tables])
            for column in ("precision", "recall", "f1", "support")
        }
        return ClassTable(tuple(label for table in tables for label in table.names), **columns)

    def heads(self) -> dict[str, Any]:
        """What stands beside the saved body."""
        settings = {name: task.model_dump(mode="json") for name, task in self.settings.tasks.items()}
        return {name: {**settings[name], "labels": list(self.members[name].names)} for name in self.members}

    def restore(self, module: nn.Module, folder: Path) -> None:
        """Fills the heads with the weights of a finished run."""
        assert isinstance(module, SharedBody), "the objective made it"
        read_heads(folder, module.heads)


def objective(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> OfSeveral:
    """The objective of a recipe; DataError for labels that do not fit, or a task without rows."""
    settings = recipe.task
    assert isinstance(settings, MultiTask), "the table names the kind"
    members, places = dict[str, One](), {}
    for name, task in settings.tasks.items():
        own = member_of(recipe, corpus, name)
        places[name] = own.places
        if isinstance(task, TokenLabels):
            members[name] = OfTags(task, tags.of_corpus(task, own.corpus))
        else:
            members[name] = _of_labels(task, targets.of_corpus(task, own.corpus), tokenizer)
    return OfSeveral(settings, members, places, recipe.train.seed)


class SharedBody(Reader):
    """A body with the heads of several tasks, and their losses."""

    def __init__(
        self,
        model: PreTrainedModel,
        members: Mapping[str, One],
        compute: torch.dtype | None = None,
        seed: int = 0,
        *,
        learned: bool = False,
    ) -> None:
        """`compute`: the type of products where weights have another; `learned`: whether variances are."""
        super().__init__(model, compute)
        self.members, self.learned = members, learned
        spread, dtype = getattr(model.config, "initializer_range", 0.02), next(model.parameters()).dtype
        heads: dict[str, nn.Module] = {
            name: new_head(_width(member) * model.config.hidden_size, member.outputs, spread, seed + number, dtype)
            for number, (name, member) in enumerate(members.items())
        }
        if learned:
            heads[VARIANCES] = Variances(len(members), dtype)
        self.heads = nn.ModuleDict(heads)

    def forward(self, batch: Batch) -> dict[str, Any]:
        """The summed loss of each task, float32 scalars; in evaluation mode what each has to know of its examples."""
        with self.precision(batch.input_ids.device):
            logits = self.logits(batch)
        terms: dict[str, Any] = {}
        outputs: dict[int, Any] = {}
        for name, member in self.members.items():
            rows, labels = batch.more[f"{name}.rows"], batch.more[f"{name}.labels"]
            own = logits[name].float()
            # A batch without a row of this task still has a gradient of its head: DDP and ZeRO wait for it.
            terms[name] = member.loss_of(own[rows], labels[: len(rows)]) + 0.0 * own.sum()
            if not self.training:
                told = member.outputs_of(own[rows], labels[: len(rows)])
                outputs |= {row: (name, one) for row, one in zip(rows.tolist(), told, strict=True)}
        if self.training:
            return self._balanced(terms, batch) if self.learned else terms
        return {**terms, OUTPUTS: [outputs[row] for row in range(len(batch.rows))]}

    def logits(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Of each head, over all rows: [B, L] of the first token, or [B, S, L]."""
        hidden = self.model(**self.inputs(batch)).last_hidden_state
        assert batch.attention_mask is not None, "rows are padded"
        mean, found = mean_of(hidden, batch.attention_mask), {}
        for name, member in self.members.items():
            if isinstance(member, OfTags):
                read = hidden
            elif isinstance(member, OfRelations):
                read = at_starts(hidden, batch.input_ids, member.starts)
            else:
                read = mean if member.settings.pooling == "mean" else hidden[:, 0]
            found[name] = self.heads[name](read)
        return found

    def _balanced(self, terms: Mapping[str, torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
        """Each loss by its variance, of which half the logarithm is added: Kendall, Gal and Cipolla 2018, equation 10.

        The logarithm counts as the loss does, so that a step without a row of a task changes nothing of it.
        """
        logs = self.heads[VARIANCES]().float()
        found = {}
        for log, (name, term) in zip(logs, terms.items(), strict=True):
            found[name] = torch.exp(-log) * term + log / 2 * batch.more[f"{name}.count"].sum()
        return found

    def shown(self, batch: Batch) -> torch.Tensor:
        """As the class says."""
        assert batch.attention_mask is not None, "rows are padded"
        hidden: torch.Tensor = self.model(**self.inputs(batch)).last_hidden_state
        return hidden[batch.attention_mask.bool()]


class Variances(nn.Module):
    """The logarithm of the variance of each of T tasks [T]; 0 at first."""

    def __init__(self, tasks: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.logs = nn.Parameter(torch.zeros(tasks, dtype=dtype))

    def forward(self) -> torch.Tensor:
        """They, through a module's forward, so that the hooks of ZeRO fire."""
        return 1.0 * self.logs


def member_without_rows(settings: Any, names: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> One:
    """A task of a finished run, which needs no rows to tell what it says."""
    if isinstance(settings, TokenLabels):
        return OfTags(settings, tags.Tags(tuple(names), {}))
    return _of_labels(settings, targets.Labels(tuple(names)), tokenizer)


def _of_labels(task: Classify | Relations, labels: targets.Labels, tokenizer: PreTrainedTokenizerBase) -> OfLabels:
    return OfRelations(task, labels, starts_of(tokenizer)) if isinstance(task, Relations) else OfLabels(task, labels)


def _width(member: One) -> int:
    """The hidden states that a head reads at a time."""
    return 2 if isinstance(member, OfRelations) else 1
