"""The next token, at the positions that the format marks as learned.

Shapes: B rows, S tokens, H hidden size, V vocabulary, T positions with a target.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from trainer.data.batches import IGNORED, Batch
from trainer.model import isolation
from trainer.model.attention import Segments, own_attention
from trainer.model.head import head_of

WEIGHTS = {"loss": 1.0}
"""The terms of this task's loss and their weights."""


def counts(batches: tuple[Batch, ...]) -> dict[str, float]:
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
        self.own_forward = False
        """Whether the model's own forward makes the logits of all positions, because ours would differ."""

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The summed loss of each term, float32 scalars."""
        wanted = batch.targets != IGNORED
        targets = batch.targets[wanted]
        with self._precision(batch.input_ids.device):
            if self.own_forward:
                logits = self.model(**_inputs(batch)).logits[wanted]
                return {"loss": nn.functional.cross_entropy(logits.float(), targets, reduction="sum")}
            hidden = self.model.base_model(**_inputs(batch)).last_hidden_state[wanted]
            return {"loss": self.head.loss(hidden, targets, whole=self.whole)}

    @torch.no_grad()
    def compare_with_own_logits(self, batch: Batch) -> tuple[tuple[float, float], float]:
        """The largest relative differences of our hidden states and logits to the model's own, and what is allowed.

        The model's own are taken example by example with transformers' attention, so that the isolation of packed
        examples is compared too. Eight positions of each example stand for all: our last one depends on all others.
        """
        training = self.training
        self.eval()
        if batch.segments is not None:
            isolation.check(self.model)
        gaps, sizes = torch.zeros(2), torch.full((2,), 1e-12)
        with self._precision(batch.input_ids.device):
            hidden = self.model.base_model(**_inputs(batch)).last_hidden_state
            with own_attention(self.model):
                for ours, tokens in _examples(batch, hidden):
                    places = torch.linspace(0, len(tokens) - 1, min(8, len(tokens)), device=tokens.device).long()
                    body = self.model.base_model(input_ids=tokens[None], use_cache=False).last_hidden_state[0, places]
                    logits = self.model(input_ids=tokens[None], use_cache=False).logits[0, places]
                    for index, (own, theirs) in enumerate(((ours[places], body), (self.head.logits(body), logits))):
                        gaps[index] = max(gaps[index], (own.float() - theirs.float()).abs().max())
                        sizes[index] = max(sizes[index], theirs.float().abs().max())
        self.train(training)
        reduced = (self.compute or next(self.model.parameters()).dtype) != torch.float32
        body_gap, head_gap = (gaps / sizes).tolist()
        return (body_gap, head_gap), 0.05 if reduced else 1e-4

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        if self.compute is None:
            return nullcontext()
        return torch.autocast(device.type, self.compute)


def _inputs(batch: Batch) -> dict[str, Any]:
    """What transformers' forward takes of a micro-batch."""
    inputs: dict[str, Any] = {"input_ids": batch.input_ids, "position_ids": batch.position_ids, "use_cache": False}
    if batch.segments is not None:
        return {**inputs, "segments": Segments(batch.segments)}
    return {**inputs, "attention_mask": batch.attention_mask}


def _examples(batch: Batch, hidden: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Hidden states [S, H] and tokens [S] of each example of a micro-batch."""
    if batch.segments is not None:
        lengths = list(batch.segments)
        return list(zip(torch.split(hidden[0], lengths), torch.split(batch.input_ids[0], lengths), strict=True))
    assert batch.attention_mask is not None, "a padded batch has a mask"
    lengths = batch.attention_mask.sum(dim=1).tolist()
    return [(hidden[row, :length], batch.input_ids[row, :length]) for row, length in enumerate(lengths) if length]
