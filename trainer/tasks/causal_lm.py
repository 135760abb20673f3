"""The next token, at the positions that the format marks as learned.

Shapes: B rows, S tokens, H hidden size, V vocabulary, T positions with a target.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.config.recipe import Recipe
from trainer.data.batches import IGNORED, Batch, Collate, next_tokens
from trainer.data.corpus import Corpus
from trainer.kernels import library
from trainer.model import isolation
from trainer.model.attention import Segments, own_attention
from trainer.model.head import head_of
from trainer.model.inputs import takes_types
from trainer.tasks.writing import Prompt, Writer, Written

MOST = 700.0
"""A loss above which its perplexity is no number."""
COMPARED = (3, 256)
"""Examples, and tokens of each, that our forward is compared on: enough for neighbours on both sides."""


class NextToken:
    """The objective."""

    weights: Mapping[str, float] = MappingProxyType({"loss": 1.0})
    labels = None

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
        """`tokenizer` writes answers; without one they are not asked for."""
        self.tokenizer = tokenizer
        self.writer: Writer | None = None

    def collate(self, split: str) -> Collate:
        """As the protocol says."""
        return next_tokens

    def counts(self, batches: Sequence[Batch]) -> dict[str, float]:
        """As the protocol says: the learned tokens."""
        return counts(batches)

    def module(self, model: PreTrainedModel, compute: torch.dtype | None, *, whole: bool) -> nn.Module:
        """As the protocol says."""
        self.writer = None if self.tokenizer is None else Writer(model, self.tokenizer, whole=whole)
        return CausalLM(model, compute, whole=whole)

    def write(self, batch: Batch, tokens: int) -> list[Written]:
        """What the model says after the first tokens of each example, up to those that are learned."""
        assert self.writer is not None, "the objective of a run has a model and a tokenizer"
        assert batch.attention_mask is not None, "who is asked stands in padded rows"
        rows = zip(
            batch.input_ids.numpy(), batch.targets.numpy(), batch.attention_mask.sum(dim=1).tolist(), strict=True
        )
        types = [None] * batch.examples if batch.token_type_ids is None else batch.token_type_ids.numpy()
        prompts, references = list[Prompt](), []
        for (ids, targets, length), kinds in zip(rows, types, strict=True):
            # The token after the first position with a target is the first one that is learned.
            found = np.flatnonzero(targets != IGNORED)
            start = int(found[0]) + 1 if len(found) else length
            prompts.append(Prompt(ids[:start], None if kinds is None else kinds[:start]))
            references.append(ids[start:length])
        return self.writer.write(prompts, references, tokens, batch.more)[: len(batch.rows)]

    def metrics(self, outputs: Sequence[Any]) -> dict[str, float]:
        """None but those of the loss."""
        return {}

    def of_means(self, means: Mapping[str, float]) -> dict[str, float]:
        """As the protocol says: of learned tokens."""
        return {"perplexity": perplexity(means["loss"])}


def objective(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> NextToken:
    """The objective of a recipe."""
    return NextToken(tokenizer)


def counts(batches: Sequence[Batch]) -> dict[str, float]:
    """What each term of the loss is divided by, for these micro-batches: the learned tokens."""
    return {"loss": float(sum(int((batch.targets != IGNORED).sum()) for batch in batches))}


class CausalLM(nn.Module):
    """Body, head and loss as one module, so that the hooks of DDP and ZeRO fire on its forward."""

    def __init__(self, model: PreTrainedModel, compute: torch.dtype | None = None, *, whole: bool = True) -> None:
        """`compute`: the type of products where weights have another; `whole`: whether weights are, between passes."""
        super().__init__()
        self.model = model
        self.compute = compute
        self.whole = whole
        self.head = head_of(model)
        self.takes_types = takes_types(model)
        self.own_forward = False
        """Whether the model's own forward makes the logits of all positions, because ours would differ."""

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The summed loss of each term, float32 scalars."""
        wanted = batch.targets != IGNORED
        targets = batch.targets[wanted]
        with self._precision(batch.input_ids.device):
            if self.own_forward:
                logits = self.model(**self._inputs(batch)).logits[wanted]
                return {"loss": nn.functional.cross_entropy(logits.float(), targets, reduction="sum")}
            hidden = self.model.base_model(**self._inputs(batch)).last_hidden_state[wanted]
            return {"loss": self.head.loss(hidden, targets, whole=self.whole)}

    @torch.no_grad()
    def compare_with_own_logits(self, batch: Batch) -> tuple[tuple[float, float], float]:
        """The largest relative differences of our hidden states and logits to the model's own, and what is allowed.

        The model's own are taken example by example, with transformers' attention and torch's own operations, so that
        the isolation of packed examples and our kernels are compared too. Eight positions of each example stand for
        all: our last one depends on all others.
        """
        training, batch = self.training, batch.beginning(*COMPARED)
        self.eval()
        if batch.segments is not None:
            isolation.check(self.model)
        gaps, sizes = torch.zeros(2), torch.full((2,), 1e-12)
        with self._precision(batch.input_ids.device):
            hidden = self.model.base_model(**self._inputs(batch)).last_hidden_state
            with own_attention(self.model), library.turned_off():
                for ours, own in self._examples(batch, hidden):
                    places = torch.linspace(0, len(ours) - 1, min(8, len(ours)), device=ours.device).long()
                    body = self.model.base_model(**own, use_cache=False).last_hidden_state[0, places]
                    logits = self.model(**own, use_cache=False).logits[0, places]
                    for index, (mine, theirs) in enumerate(((ours[places], body), (self.head.logits(body), logits))):
                        gaps[index] = max(gaps[index], (mine.float() - theirs.float()).abs().max())
                        sizes[index] = max(sizes[index], theirs.float().abs().max())
        self.train(training)
        reduced = (self.compute or next(self.model.parameters()).dtype) != torch.float32
        body_gap, head_gap = (gaps / sizes).tolist()
        return (body_gap, head_gap), 0.05 if reduced else 1e-4

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        """What transformers' forward takes of a micro-batch."""
        inputs: dict[str, Any] = {"input_ids": batch.input_ids, "position_ids": batch.position_ids, "use_cache": False}
        if self.takes_types and batch.token_type_ids is not None:
            inputs["token_type_ids"] = batch.token_type_ids
        if batch.segments is not None:
            return {**inputs, "segments": Segments(batch.segments)}
        return {**inputs, "attention_mask": batch.attention_mask}

    def _examples(self, batch: Batch, hidden: torch.Tensor) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        """Hidden states [S, H] of each example of a micro-batch, and what the model itself takes of it [1, S]."""
        columns = {"hidden": hidden, "input_ids": batch.input_ids}
        if self.takes_types and batch.token_type_ids is not None:
            columns["token_type_ids"] = batch.token_type_ids
        found = []
        if batch.segments is not None:
            ends = list(accumulate(batch.segments))
            places = [(0, end - length, end) for length, end in zip(batch.segments, ends, strict=True)]
        else:
            assert batch.attention_mask is not None, "a padded batch has a mask"
            lengths = batch.attention_mask.sum(dim=1).tolist()
            places = [(row, 0, length) for row, length in enumerate(lengths) if length]
        for row, start, end in places:
            parts = {name: column[row : row + 1, start:end] for name, column in columns.items()}
            found.append((parts.pop("hidden")[0], parts))
        return found

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        if self.compute is None:
            return nullcontext()
        return torch.autocast(device.type, self.compute)


def perplexity(loss: float) -> float:
    """Of the mean loss of a token, in nats; that of a loss without bounds has none either."""
    return math.exp(loss) if loss < MOST else math.inf


def gap(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference by the largest value; 0 where there are none."""
    if not theirs.numel():
        return 0.0
    return float((ours.float() - theirs.float()).abs().max() / theirs.float().abs().max().clamp(min=1e-12))
