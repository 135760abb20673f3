"""The tokens of a target, after a source that an encoder reads.

Shapes: B examples, S tokens of a source, T tokens of a target, N of all targets, H hidden size.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.config.recipe import Recipe
from trainer.config.seq2seq import Seq2Seq
from trainer.data.batches import IGNORED, Batch, Collate, batch_of
from trainer.data.corpus import Corpus
from trainer.data.encoded import Encoded
from trainer.data.packing import Layout
from trainer.kernels import library
from trainer.model.attention import own_attention
from trainer.model.cross_entropy import Loss
from trainer.model.head import head_of
from trainer.tasks import causal_lm
from trainer.tasks.causal_lm import perplexity
from trainer.tasks.objective import Asked, Predict
from trainer.tasks.writing import Prompt, Writer, Written


class TargetAfterSource:
    """The objective."""

    weights: Mapping[str, float] = MappingProxyType({"loss": 1.0})
    labels = None

    def __init__(self, settings: Seq2Seq, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
        """`tokenizer` writes answers; without one they are not asked for."""
        self.settings, self.tokenizer = settings, tokenizer
        self.writer: Writer | None = None

    def collate(self, split: str) -> Collate:
        """As the protocol says."""
        return collate

    def counts(self, batches: Sequence[Batch]) -> dict[str, float]:
        """As the protocol says: the tokens of the targets, their end included."""
        return causal_lm.counts(batches)

    def module(self, model: PreTrainedModel, compute: torch.dtype | None, *, whole: bool) -> nn.Module:
        """As the protocol says."""
        self.writer = None if self.tokenizer is None else Writer(model, self.tokenizer, whole=whole)
        return EncoderDecoder(model, Loss(smoothing=self.settings.label_smoothing), compute, whole=whole)

    def write(self, batch: Batch, tokens: int) -> list[Written]:
        """What the model answers to the sources."""
        assert self.writer is not None, "the objective of a run has a model and a tokenizer"
        assert batch.attention_mask is not None, "rows are padded"
        sources = zip(batch.input_ids.numpy(), batch.attention_mask.sum(dim=1).tolist(), strict=True)
        references = [targets[targets != IGNORED] for targets in batch.targets.numpy()]
        return self.writer.write([Prompt(ids[:length]) for ids, length in sources], references, tokens)

    def metrics(self, outputs: Sequence[Any]) -> dict[str, float]:
        """None but those of the loss."""
        return {}

    def of_means(self, means: Mapping[str, float]) -> dict[str, float]:
        """As the protocol says: of the target's tokens; a smoothed loss has no perplexity."""
        return {} if self.settings.label_smoothing else {"perplexity": perplexity(means["loss"])}


def objective(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> TargetAfterSource:
    """The objective of a recipe."""
    assert isinstance(recipe.task, Seq2Seq), "the table names the kind"
    return TargetAfterSource(recipe.task, tokenizer)


def predictor(recipe: Recipe, result: Path, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Predict:
    """What the model writes."""
    writer = Writer(model, tokenizer, whole=True)

    def predict(rows: Sequence[Asked]) -> list[dict[str, Any]]:
        prompts = [Prompt(row.encoded.apart()[0].tokens) for row in rows]
        nothing = [prompt.tokens[:0] for prompt in prompts]
        return [{"answer": said.answer} for said in writer.write(prompts, nothing, recipe.evaluate.answer_tokens)]

    return predict


def collate(rows: Sequence[int], examples: Sequence[Encoded], layout: Layout, epoch: int) -> Batch:
    """The sources padded [B, S], and beside them the targets [B, T]; IGNORED where a target has ended."""
    if not examples:
        return batch_of([], layout)
    sources, targets = zip(*(example.apart() for example in examples), strict=True)
    learned = [torch.from_numpy(target.tokens).long() for target in targets]
    batch = batch_of(sources, layout)
    wanted = pad_sequence(learned, batch_first=True, padding_value=IGNORED)
    return replace(batch, targets=wanted, tokens=sum(len(example.tokens) for example in examples))


class EncoderDecoder(nn.Module):
    """Encoder, decoder, head and loss as one module, so that the hooks of DDP and ZeRO fire on its forward."""

    def __init__(
        self, model: PreTrainedModel, loss: Loss, compute: torch.dtype | None = None, *, whole: bool = True
    ) -> None:
        """`compute`: the type of products where weights have another; `whole`: whether weights are, between passes."""
        super().__init__()
        self.model, self.loss, self.compute, self.whole = model, loss, compute, whole
        self.head = head_of(model)
        self.own_forward = False
        """Whether the model's own forward makes the logits of all positions, because ours would differ."""

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The summed loss of the targets, a float32 scalar."""
        wanted = batch.targets != IGNORED
        targets = batch.targets[wanted]
        with self._precision(batch.input_ids.device):
            if self.own_forward:
                return {"loss": self.loss.of(self.model(**self._inputs(batch)).logits[wanted], targets)}
            hidden = self._hidden(batch)[wanted]
            return {"loss": self.head.loss(hidden, targets, self.loss, whole=self.whole)}

    @torch.no_grad()
    def compare_with_own_logits(self, batch: Batch) -> tuple[tuple[float, float], float]:
        """The largest relative differences of hidden states and logits to the model's own, and what is allowed.

        The model's own are made by transformers' attention and torch's own operations.
        """
        training, batch = self.training, batch.beginning(causal_lm.COMPARED[0])
        wanted = batch.targets != IGNORED
        self.eval()
        with self._precision(batch.input_ids.device):
            ours = self._hidden(batch)[wanted]
            with own_attention(self.model), library.turned_off():
                body = self._hidden(batch)[wanted]
                logits = self.model(**self._inputs(batch)).logits[wanted]
            head = self.head.logits(body)
        self.train(training)
        reduced = (self.compute or next(self.model.parameters()).dtype) != torch.float32
        return (causal_lm.gap(ours, body), causal_lm.gap(head, logits)), 0.05 if reduced else 1e-4

    def _hidden(self, batch: Batch) -> torch.Tensor:
        """What the decoder says at each position of the targets [B, T, H]."""
        inputs = self._inputs(batch)
        mask, before = inputs["attention_mask"], inputs["decoder_input_ids"]
        read = self.model.get_encoder()(input_ids=inputs["input_ids"], attention_mask=mask).last_hidden_state
        said = self.model.get_decoder()(
            input_ids=before, encoder_hidden_states=read, encoder_attention_mask=mask, use_cache=False
        )
        hidden: torch.Tensor = said.last_hidden_state
        return hidden

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        """What transformers' forward takes; a decoder that has ended reads padding, which nothing before it sees."""
        before = self.model.prepare_decoder_input_ids_from_labels(labels=batch.targets)
        return {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "decoder_input_ids": before,
            "use_cache": False,
        }

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        return nullcontext() if self.compute is None else torch.autocast(device.type, self.compute)
