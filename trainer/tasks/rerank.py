"""How well candidates answer a query: one score for each text of both.

B queries, R texts of all their candidates, S tokens.
"""

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

from trainer.config.recipe import Recipe
from trainer.config.rerank import Rerank
from trainer.data.batches import Batch, Collate, batch_of
from trainer.data.corpus import Corpus
from trainer.data.draws import generator_of
from trainer.data.encoded import Encoded
from trainer.data.packing import Layout
from trainer.data.tokenizer import padding_of
from trainer.errors import DataError, Problem
from trainer.tasks.objective import OUTPUTS, Asked, Predict
from trainer.tasks.reader import Reader

RELEVANCE, SIZES = "relevance", "sizes"
"""What stands beside the tokens: the number of each candidate [R], and how many each query has [B]."""
MOST = 10
"""Candidates that the NDCG looks at."""
Numbers = np.ndarray[Any, np.dtype[Any]]


class OfCandidates:
    """The objective."""

    weights: Mapping[str, float] = MappingProxyType({"loss": 1.0})
    labels = ("score",)

    def __init__(self, settings: Rerank, relevance: Mapping[str, Sequence[Numbers]], seed: int = 0) -> None:
        """`relevance` of each example of the splits."""
        self.settings, self._relevance, self.seed = settings, relevance, seed

    def collate(self, split: str) -> Collate:
        """As the protocol says: a text for each candidate."""
        held = self._relevance[split]

        def listed(rows: Sequence[int], examples: Sequence[Encoded], layout: Layout, epoch: int) -> Batch:
            texts, numbers, sizes = list[Encoded](), list[Numbers](), list[int]()
            for row, example in zip(rows, examples, strict=True):
                own, every = held[row], example.apart()
                chosen = self._chosen(own, generator_of(self.seed, split, epoch, row)) if split == "train" else None
                places = range(len(every)) if chosen is None else chosen
                texts += [every[place] for place in places]
                numbers.append(own[list(places)])
                sizes.append(len(numbers[-1]))
            relevance = np.concatenate([np.zeros(0, np.float32), *numbers])
            more = {RELEVANCE: torch.from_numpy(relevance), SIZES: torch.tensor(sizes, dtype=torch.int64)}
            return replace(batch_of(texts, layout), more=more)

        return listed

    def counts(self, batches: Sequence[Batch]) -> dict[str, float]:
        """As the protocol says: candidates, pairs of unlike ones, or queries."""
        if self.settings.loss == "pointwise":
            return {"loss": float(sum(len(batch.more[RELEVANCE]) for batch in batches))}
        if self.settings.loss == "listwise":
            return {"loss": float(sum(len(batch.more[SIZES]) for batch in batches))}
        lists = [own for batch in batches for own in _by_query(batch.more[RELEVANCE], batch.more[SIZES])]
        return {"loss": float(sum(int((own[:, None] > own).sum()) for own in lists))}

    def module(self, model: PreTrainedModel, compute: torch.dtype | None, *, whole: bool) -> nn.Module:
        """As the protocol says."""
        return Ranker(model, self.settings.loss, compute)

    def metrics(self, outputs: Sequence[Any]) -> dict[str, float]:
        """As the protocol says; among equal scores the worst order counts."""
        from sklearn.metrics import ndcg_score

        ranks, first, gains = [], [], []
        for scores, relevance in outputs:
            # Worse candidates before better ones where their scores are equal.
            order = np.lexsort((relevance, -scores))
            ranks.append(1 + int(np.argmax(relevance[order] > 0)))
            first.append(relevance[order[0]] == relevance.max())
            gains.append(ndcg_score(relevance[None], scores[None], k=MOST) if len(scores) > 1 else 1.0)
        found = {"mrr": np.mean(1 / np.array(ranks)), "ndcg_10": np.mean(gains), "accuracy_at_1": np.mean(first)}
        return {name: float(value) for name, value in found.items()}

    def _chosen(self, relevance: Numbers, generator: np.random.Generator) -> list[int] | None:
        """The candidates that training sees, in their order; None: all."""
        most = self.settings.candidates
        if most is None or len(relevance) <= most:
            return None
        right, others = np.flatnonzero(relevance > 0), np.flatnonzero(relevance <= 0)
        # One that is worse stays at least.
        right = right if len(right) < most else generator.choice(right, most - 1, replace=False)
        drawn = generator.choice(others, min(len(others), most - len(right)), replace=False)
        return sorted([*right.tolist(), *drawn.tolist()])


def objective(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> OfCandidates:
    """The objective of a recipe; DataError where more queries were left out than there are."""
    assert isinstance(recipe.task, Rerank), "the table names the kind"
    lacking = corpus.stores["train"].info.left_out.get("no positive candidate", 0)
    kept = len(corpus.rows["train"])
    if lacking > kept:
        message = f"{lacking} queries have no candidate to learn from, and {kept} have one; quarantine.jsonl names them"
        raise DataError([Problem("data.train", message)])
    relevance = {}
    for split in corpus.rows:
        column = corpus.facts(split).columns[recipe.task.relevance]
        codes = column.codes[corpus.row_of(split)].tolist()
        relevance[split] = [np.array(column.values[code], dtype=np.float32) for code in codes]
    return OfCandidates(recipe.task, relevance, recipe.train.seed)


class Ranker(Reader):
    """A model of transformers with a head of one output, and its loss."""

    def __init__(self, model: PreTrainedModel, loss: str = "listwise", compute: torch.dtype | None = None) -> None:
        """`compute`: the type of products where weights have another."""
        super().__init__(model, compute)
        self.kind = loss

    def forward(self, batch: Batch) -> dict[str, Any]:
        """The summed loss, a float32 scalar; in evaluation mode scores and relevance of each query's candidates too."""
        relevance, sizes = batch.more[RELEVANCE], batch.more[SIZES]
        with self.precision(batch.input_ids.device):
            scores = self.scores(batch).float()
        # The text of a spare batch belongs to no query.
        own = scores[: len(relevance)]
        lists = list(zip(_by_query(own, sizes), _by_query(relevance, sizes), strict=True))
        losses = [self._loss(one, other) for one, other in lists]
        terms = {"loss": torch.stack([*losses, 0.0 * scores.sum()]).sum()}
        if self.training:
            return terms
        return {**terms, OUTPUTS: [(one.cpu().numpy(), other.cpu().numpy()) for one, other in lists]}

    def scores(self, batch: Batch) -> torch.Tensor:
        """Of each text [R]."""
        scores: torch.Tensor = self.model(**self.inputs(batch)).logits[:, 0]
        return scores

    def _loss(self, scores: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
        """Of one query, summed over candidates, pairs, or the list as a whole."""
        if self.kind == "pointwise":
            right = (relevance > 0).float()
            return functional.binary_cross_entropy_with_logits(scores, right, reduction="sum")
        if self.kind == "pairwise":
            better = relevance[:, None] > relevance
            return functional.softplus(scores[None, :] - scores[:, None])[better].sum()
        return -(relevance / relevance.sum() * scores.log_softmax(dim=0)).sum()

    def shown(self, batch: Batch) -> torch.Tensor:
        """As the class says."""
        return self.scores(batch)


def _by_query(values: torch.Tensor, sizes: torch.Tensor) -> list[torch.Tensor]:
    """Values of candidates [R] as those of each query."""
    ends = sizes.cumsum(dim=0).tolist()
    return [values[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def predictor(recipe: Recipe, result: Path, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Predict:
    """The candidates in their order, the best first."""
    module = Ranker(model)
    layout = Layout.padded(padding_of(tokenizer))

    def predict(rows: Sequence[Asked]) -> list[dict[str, Any]]:
        found = []
        for row in rows:
            scores = module.scores(batch_of(row.encoded.apart(), layout).to(model.device)).float().tolist()
            order = sorted(range(len(scores)), key=lambda place: -scores[place])
            texts = [text for _, text in row.parts]
            told = [{"text": texts[place], "place": place, "score": scores[place]} for place in order]
            found.append({"best": told[0]["text"], "candidates": told})
        return found

    return predict
