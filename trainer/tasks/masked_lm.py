"""The tokens that are masked, and beside them whether one text follows another (Devlin et al. 2019).

B examples, S tokens, H hidden size, V vocabulary, T masked tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.config.masked_lm import MaskedLM
from trainer.config.recipe import Recipe
from trainer.data.batches import IGNORED, Batch, Collate, batch_of
from trainer.data.corpus import Corpus
from trainer.data.draws import generator_of
from trainer.data.encoded import Encoded
from trainer.data.masking import Masking, with_second
from trainer.data.packing import Layout
from trainer.data.split import Split
from trainer.data.tokenizer import padding_of
from trainer.errors import Problem, RecipeError
from trainer.kernels import library
from trainer.model.attention import own_attention
from trainer.tasks.causal_lm import COMPARED, gap, perplexity
from trainer.tasks.objective import OUTPUTS, Asked, Predict
from trainer.tasks.reader import Reader

FILLINGS = 5
"""Tokens that are told for each mask."""
FOLLOWS, OTHER = 0, 1
"""What transformers calls a second text that follows the first, and one that does not."""


class Masked:
    """The objective."""

    labels = None

    def __init__(
        self, settings: MaskedLM, masking: Masking, splits: Mapping[str, Split], seed: int, room: int = 512
    ) -> None:
        """`splits` are those of the run; `room` are the most tokens of a pair that is put together."""
        self.settings, self.masking, self._splits, self.seed, self.room = settings, masking, splits, seed, room
        second = {"next_sentence": 1.0} if settings.next_sentence else {}
        self.weights: Mapping[str, float] = {"loss": 1.0, **second}

    def collate(self, split: str) -> Collate:
        """As the protocol says."""

        def masked(rows: Sequence[int], examples: Sequence[Encoded], layout: Layout, epoch: int) -> Batch:
            seen, wanted, follows = list[Encoded](), list[np.ndarray[Any, Any]](), list[int]()
            for row, example in zip(rows, examples, strict=True):
                generator = generator_of(self.seed, split, epoch, row)
                if self.settings.next_sentence:
                    example, other = self._paired(split, row, example, generator)
                    follows.append(other)
                tokens, learned = self.masking.drawn(example.tokens, generator)
                wanted.append(np.where(learned, example.tokens, IGNORED))
                seen.append(replace(example, tokens=tokens))
            batch = batch_of(seen, layout)
            targets = torch.full_like(batch.input_ids, IGNORED)
            for place, own in enumerate(wanted):
                targets[place, : len(own)] = torch.from_numpy(own)
            labels = torch.tensor(follows or [IGNORED]) if self.settings.next_sentence else None
            return replace(batch, targets=targets, labels=labels)

        return masked

    def counts(self, batches: Sequence[Batch]) -> dict[str, float]:
        """As the protocol says: masked tokens, and pairs."""
        found = {"loss": float(sum(int((batch.targets != IGNORED).sum()) for batch in batches))}
        if self.settings.next_sentence:
            labels = [batch.labels for batch in batches if batch.labels is not None]
            found["next_sentence"] = float(sum(int((some != IGNORED).sum()) for some in labels))
        return found

    def module(self, model: PreTrainedModel, compute: torch.dtype | None, *, whole: bool) -> nn.Module:
        """As the protocol says."""
        if model.config.is_encoder_decoder:
            message = f"is a {model.config.model_type}, which writes its answer; name an encoder, or task.kind: seq2seq"
            raise RecipeError([Problem("model.name", message)])
        if self.settings.next_sentence and not hasattr(getattr(model, "cls", None), "seq_relationship"):
            message = f"a {model.config.model_type} has no head for it; leave it out, or name a BERT"
            raise RecipeError([Problem("task.next_sentence", message)])
        return MaskedModel(model, compute, next_sentence=self.settings.next_sentence)

    def metrics(self, outputs: Sequence[Any]) -> dict[str, float]:
        """As the protocol says: accuracy over all masked tokens."""
        summed = np.array(outputs, dtype=np.float64).sum(axis=0)
        found = {"accuracy": float(summed[0] / max(1.0, summed[1]))}
        return {**found, "next_sentence_accuracy": float(summed[2] / len(outputs))} if len(summed) > 2 else found

    def of_means(self, means: Mapping[str, float]) -> dict[str, float]:
        """As the protocol says: of masked tokens."""
        return {"perplexity": perplexity(means["loss"])}

    def _paired(self, split: str, row: int, example: Encoded, generator: np.random.Generator) -> tuple[Encoded, int]:
        """The pair as it is, or with the second text of another row."""
        rows = self._splits[split]
        other = int(generator.integers(max(1, len(rows) - 1)))
        if generator.random() < 0.5 or len(rows) < 2:
            return example, FOLLOWS
        return with_second(example, rows.example(other + (other >= row)), self.room), OTHER


def objective(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> Masked:
    """The objective of a recipe."""
    settings = recipe.task
    assert isinstance(settings, MaskedLM), "the table names the kind"
    masking = Masking.of(tokenizer, settings.share, whole_words=settings.masking == "whole_word")
    splits = {name: corpus.split(name) for name in corpus.rows}
    return Masked(settings, masking, splits, recipe.train.seed, recipe.data.max_length)


class MaskedModel(Reader):
    """Body, heads and loss as one module."""

    def __init__(
        self, model: PreTrainedModel, compute: torch.dtype | None = None, *, next_sentence: bool = False
    ) -> None:
        """`compute`: the type of products where weights have another."""
        super().__init__(model, compute)
        self.next_sentence = next_sentence
        self.own_forward = _head_of(model) is None
        """Whether the model's own forward makes the logits of all positions."""

    def forward(self, batch: Batch) -> dict[str, Any]:
        """The summed loss of each term, float32 scalars.

        In evaluation mode, of each example, how many masked tokens are right and how many there are; and whether it is
        right about the second text.
        """
        wanted = batch.targets != IGNORED
        targets = batch.targets[wanted]
        with self.precision(batch.input_ids.device):
            logits, second = self.logits(batch, wanted)
        logits = logits.float()
        terms = {"loss": functional.cross_entropy(logits, targets, reduction="sum")}
        if self.next_sentence:
            assert batch.labels is not None, "pairs have labels"
            loss = functional.cross_entropy(second.float(), batch.labels, reduction="sum", ignore_index=IGNORED)
            terms["next_sentence"] = loss
        if self.training:
            return terms
        right = torch.zeros(batch.targets.shape, device=logits.device)
        right[wanted] = (logits.argmax(dim=-1) == targets).float()
        columns = [right.sum(dim=1), wanted.sum(dim=1)]
        if self.next_sentence and batch.labels is not None:
            columns.append(second.argmax(dim=-1).eq(batch.labels))
        told = torch.stack([column.float().cpu() for column in columns], dim=1)
        return {**terms, OUTPUTS: told.tolist()[: len(batch.rows)]}

    def logits(self, batch: Batch, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Those of the wanted tokens [T, V], and of the second text [B, 2], which is empty unless it is learned."""
        if self.own_forward:
            return self._own(batch, wanted)
        head = _head_of(self.model)
        assert head is not None, "looked for above"
        body = self.model.base_model(**self.inputs(batch))
        logits: torch.Tensor = head(body.last_hidden_state[wanted])
        cls: Any = getattr(self.model, "cls", None)
        return logits, cls.seq_relationship(body.pooler_output) if self.next_sentence else logits.new_zeros(0, 2)

    @torch.no_grad()
    def compare_with_own_logits(self, batch: Batch) -> tuple[tuple[float, float], float]:
        """The largest relative differences of our logits to the model's own, and what is allowed."""
        training, batch = self.training, batch.beginning(*COMPARED)
        wanted = batch.targets != IGNORED
        self.eval()
        with self.precision(batch.input_ids.device):
            ours, second = self.logits(batch, wanted)
            with own_attention(self.model), library.turned_off():
                theirs, own_second = self._own(batch, wanted)
        self.train(training)
        reduced = (self.compute or next(self.model.parameters()).dtype) != torch.float32
        return (0.0, max(gap(ours, theirs), gap(second, own_second))), 0.05 if reduced else 1e-4

    def _own(self, batch: Batch, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        said = self.model(**self.inputs(batch))
        if self.next_sentence:
            return said.prediction_logits[wanted], said.seq_relationship_logits
        logits: torch.Tensor = said.logits[wanted]
        return logits, logits.new_zeros(0, 2)


def _head_of(model: PreTrainedModel) -> nn.Module | None:
    """What makes logits of hidden states one by one; None where a model has it in several pieces."""
    head = getattr(getattr(model, "cls", None), "predictions", None) or getattr(model, "lm_head", None)
    return head if isinstance(head, nn.Module) else None


def predictor(recipe: Recipe, result: Path, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Predict:
    """The likeliest tokens for each mask of a text, with their probabilities."""
    module = MaskedModel(model)
    layout = Layout.padded(padding_of(tokenizer))

    def predict(rows: Sequence[Asked]) -> list[dict[str, Any]]:
        batch = batch_of([row.encoded for row in rows], layout).to(model.device)
        wanted = batch.input_ids == tokenizer.mask_token_id
        chances, tokens = module.logits(batch, wanted)[0].float().softmax(dim=-1).topk(FILLINGS, dim=-1)
        told = [
            [{"token": tokenizer.decode([token]).strip(), "score": score} for token, score in zip(*pair, strict=True)]
            for pair in zip(tokens.tolist(), chances.tolist(), strict=True)
        ]
        ends = wanted.sum(dim=1).cumsum(dim=0).tolist()
        return [{"masks": told[start:end]} for start, end in zip([0, *ends], ends, strict=False)]

    return predict
