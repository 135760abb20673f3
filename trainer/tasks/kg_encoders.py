"""What scores an entity as the answer of a question: two encodings, or one text of both.

B examples, two questions each; S tokens, H hidden size, E entities.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from trainer import ranks
from trainer.data.batches import Batch
from trainer.data.triple import BACK, HEAD, QUERY, TAIL
from trainer.tasks.heads import new_head
from trainer.tasks.objective import OUTPUTS
from trainer.tasks.reader import Reader, mean_of

REPRESENTATIONS = "representations"
PULL, VALUE, TRIPLES, OTHERS, RIGHT, LENGTHS = "pull", "value", "triples", "others", "right", "lengths"
"""What stands beside the tokens of a batch."""
PARTS = 4
"""Texts of an example that are encoded apart."""
_NAME = "kg"
TOGETHER = 256
"""Texts that are scored at a time where all entities are."""


class Encoder(Reader):
    """A body, and what both kinds do with it."""

    def hidden(self, batch: Batch) -> torch.Tensor:
        """The hidden states [R, S, H] of R texts."""
        with self.precision(batch.input_ids.device):
            hidden: torch.Tensor = self.model(**self.inputs(batch)).last_hidden_state
        return hidden.float()

    def mean(self, batch: Batch) -> torch.Tensor:
        """The mean of the hidden states of each text [R, H]."""
        assert batch.attention_mask is not None, "texts are padded"
        return mean_of(self.hidden(batch), batch.attention_mask)

    def shown(self, batch: Batch) -> torch.Tensor:
        """As the class says."""
        return self.mean(batch)


class BiEncoder(Encoder):
    """Questions and entities apart, compared by the cosine of their means."""

    def __init__(self, model: PreTrainedModel, temperature: float, compute: torch.dtype | None = None) -> None:
        super().__init__(model, compute)
        self.temperature = temperature
        self.entities: torch.Tensor | None = None
        """Of all entities [E, H], while they are looked for."""

    def encode(self, batch: Batch) -> torch.Tensor:
        """Of each text [R, H], of length 1."""
        return functional.normalize(self.mean(batch), dim=-1)

    def forward(self, batch: Batch) -> dict[str, Any]:
        """In training the encodings of each example [B, 4, H] or, once the step is known, the loss.

        In evaluation mode those of entities, or the loss over all entities and the rank of each answer.
        """
        encoded = self.encode(batch)
        if TRIPLES not in batch.more:
            return {REPRESENTATIONS: encoded}
        triples = batch.more[TRIPLES]
        # A spare text belongs to no example.
        each = encoded[: PARTS * len(triples)].view(len(triples), PARTS, encoded.shape[-1])
        if not self.training:
            return self._ranked(each, batch)
        if PULL not in batch.more:
            return {REPRESENTATIONS: each}
        # GradCache (Gao et al. 2021): what the loss of the whole step says to these encodings.
        pulled = (each * batch.more[PULL]).sum() + 0.0 * encoded.sum()
        return {"loss": pulled - pulled.detach() + batch.more[VALUE].sum()}

    def _ranked(self, each: torch.Tensor, batch: Batch) -> dict[str, Any]:
        assert self.entities is not None, "entities are looked at first"
        triples = batch.more[TRIPLES]
        asked = each[:, [QUERY, BACK]].flatten(0, 1)
        scores = asked @ self.entities.T / self.temperature
        answers = triples[:, [2, 0]].flatten()
        scores = scores.masked_fill(batch.more[OTHERS], -torch.inf)
        loss = functional.cross_entropy(scores, answers, reduction="sum")
        return {"loss": loss, OUTPUTS: rank_of(scores, answers).view(-1, 2).tolist()}


class CrossEncoder(Encoder):
    """Question and entity as one text, read at its first token."""

    def __init__(
        self,
        model: PreTrainedModel,
        joined: Callable[[torch.Tensor, Sequence[int]], Batch],
        entities: int,
        compute: torch.dtype | None = None,
        seed: int = 0,
    ) -> None:
        """`joined` are the tokens of a question [S] before each of some entities."""
        super().__init__(model, compute)
        self.joined, self.count = joined, entities
        spread = getattr(model.config, "initializer_range", 0.02)
        head = new_head(model.config.hidden_size, 1, spread, seed, next(model.parameters()).dtype)
        self.heads = nn.ModuleDict({_NAME: head})

    def scores(self, batch: Batch) -> torch.Tensor:
        """How true each text is [R], as a logit."""
        head = self.heads[_NAME]
        scores: torch.Tensor = head(self.hidden(batch)[:, 0].to(next(head.parameters()).dtype))[:, 0].float()
        return scores

    def forward(self, batch: Batch) -> dict[str, Any]:
        """The summed loss, a float32 scalar; in evaluation mode the rank of each answer too."""
        right = batch.more[RIGHT]
        scores = self.scores(batch)
        loss = functional.binary_cross_entropy_with_logits(scores[: len(right)], right, reduction="sum")
        terms = {"loss": loss + 0.0 * scores.sum()}
        if self.training:
            return terms
        answers = batch.more[TRIPLES][:, [2, 0]].flatten()
        found = self._all(batch, len(answers)).masked_fill(batch.more[OTHERS], -torch.inf)
        return {**terms, OUTPUTS: rank_of(found, answers).view(-1, 2).tolist()}

    def _all(self, batch: Batch, questions: int) -> torch.Tensor:
        """The score of each entity for each question [2B, E]; all ranks do equally many forwards."""
        group = len(batch.more[RIGHT]) // max(1, questions)
        found = torch.zeros(questions, self.count, device=batch.input_ids.device)
        for number in range(int(max(ranks.all_gather(questions)))):
            there = number < questions
            length = int(batch.more[LENGTHS][number]) if there else 1
            question = batch.input_ids[number * group if there else 0, :length]
            for start in range(0, self.count, TOGETHER):
                entities = range(start, min(start + TOGETHER, self.count))
                scores = self.scores(self.joined(question, entities).to(batch.input_ids.device))
                if there:
                    found[number, start : entities.stop] = scores
        return found


def rank_of(scores: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """The rank of each answer [Q] among the entities [Q, E], from 1; among equal scores the mean of their ranks.

    "Realistic" in Berrendorf et al. 2020, "On the ambiguity of rank-based evaluation".
    """
    own = scores.gather(1, answers[:, None])
    better, equal = (scores > own).sum(dim=1), (scores == own).sum(dim=1)
    return 1 + better + (equal - 1) / 2


def step_loss(each: torch.Tensor, hidden: torch.Tensor, temperature: float) -> torch.Tensor:
    """The loss of each question of a step [2N]: InfoNCE over the entities of all its examples, whose encodings are
    `each` [N, 4, H]; `hidden` [2N, 2N] are those that are right too.
    """
    asked = each[:, [QUERY, BACK]].flatten(0, 1)
    candidates = each[:, [TAIL, HEAD]].flatten(0, 1)
    scores = (asked @ candidates.T / temperature).masked_fill(hidden, -torch.inf)
    return functional.cross_entropy(scores, torch.arange(len(scores), device=scores.device), reduction="none")
