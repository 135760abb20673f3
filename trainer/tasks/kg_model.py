"""What a run over a knowledge graph made: it ranks entities by how well they answer a question."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.config.load import recipe_of
from trainer.config.recipe import Recipe
from trainer.data.batches import Batch, batch_of
from trainer.data.encode import Encoder
from trainer.data.encoded import Encoded
from trainer.data.example import Example
from trainer.data.graph import joined
from trainer.data.triple import INVERSE, readable
from trainer.tasks.answering import Answering
from trainer.tasks.heads import read_heads, read_settings
from trainer.tasks.kg_encoders import TOGETHER, BiEncoder, CrossEncoder
from trainer.tasks.kg_encoders import Encoder as Body
from trainer.tasks.objective import Asked, Predict

_READS = {
    "model": {"name": "-"},
    "task": {"kind": "kg_completion"},
    "data": {"train": [{"path": "-", "format": "triple"}]},
}
BEST = 10
"""Entities that a prediction tells."""


class KgModel(Answering):
    """A body with its head, the tokenizer and the entities.

    model = KgModel.from_pretrained("runs/umls/model")
    model.rank("steroid", "interacts_with")            # the likeliest tails, each with its score
    model.rank("eicosanoid", "interacts_with", back=True)      # the likeliest heads
    """

    def __init__(self, encoder: Body, tokenizer: PreTrainedTokenizerBase, entities: Sequence[str]) -> None:
        super().__init__(encoder, tokenizer)
        self.encoder, self.entities = encoder, tuple(entities)
        # The rows of a run go the same way.
        self._encoder = Encoder(recipe_of(_READS), tokenizer)
        self.encoded = [self._tokens(entity) for entity in self.entities]
        self._of_entities: torch.Tensor | None = None

    @classmethod
    def beside(cls, body: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> "KgModel":
        """A loaded body with what stands beside it in a folder."""
        settings = read_settings(folder)
        if settings["encoder"] == "bi":
            return cls(BiEncoder(body, settings["temperature"]), tokenizer, settings["entities"])

        def before_each(question: torch.Tensor, chosen: Sequence[int]) -> Batch:
            return batch_of([joined(_row(question.tolist()), made.encoded[entity]) for entity in chosen], made.layout)

        module = CrossEncoder(body, before_each, len(settings["entities"]))
        read_heads(folder, module.heads)
        made = cls(module, tokenizer, settings["entities"])
        return made

    def rank(self, entity: str, relation: str, *, back: bool = False, best: int = BEST) -> list[tuple[str, float]]:
        """The likeliest tails of a head or, `back`, heads of a tail; each with its score, the best first."""
        said = f"{INVERSE if back else ''}{readable(relation)}"
        [found] = self.best([self._tokens(entity, said)], best)
        return found

    @torch.inference_mode()
    def best(self, questions: Sequence[Encoded], best: int = BEST) -> list[list[tuple[str, float]]]:
        """The likeliest entities for each question: cosines of two encodings, or probabilities of one text."""
        if isinstance(self.encoder, BiEncoder):
            scores = self._encoded(self.encoder, questions) @ self._every(self.encoder).T
        else:
            assert isinstance(self.encoder, CrossEncoder), "there are two kinds"
            rows = []
            for question in questions:
                texts = [joined(question, entity) for entity in self.encoded]
                parts = [texts[start : start + TOGETHER] for start in range(0, len(texts), TOGETHER)]
                rows.append(
                    torch.cat([self.encoder.scores(batch_of(part, self.layout).to(self.device)) for part in parts])
                )
            scores = torch.stack(rows).sigmoid()
        values, numbers = scores.float().topk(min(best, len(self.entities)), dim=-1)
        return [
            [(self.entities[number], value) for number, value in zip(*pair, strict=True)]
            for pair in zip(numbers.tolist(), values.tolist(), strict=True)
        ]

    def _every(self, encoder: BiEncoder) -> torch.Tensor:
        if self._of_entities is None:
            self._of_entities = self._encoded(encoder, self.encoded)
        return self._of_entities

    def _encoded(self, encoder: BiEncoder, texts: Sequence[Encoded]) -> torch.Tensor:
        parts = [texts[start : start + TOGETHER] for start in range(0, len(texts), TOGETHER)]
        return torch.cat([encoder.encode(batch_of(part, self.layout).to(self.device)) for part in parts])

    def _tokens(self, entity: str, relation: str | None = None) -> Encoded:
        texts = (readable(entity),) if relation is None else (readable(entity), relation)
        [row] = self._encoder.encode([Example("", 0, parts=(texts,))])
        assert isinstance(row, Encoded), "only chat templates refuse a row"
        return row


def _row(tokens: Sequence[int]) -> Encoded:
    return Encoded(np.array(tokens, dtype=np.int32), np.zeros(len(tokens), dtype=np.bool_))


def predictor(recipe: Recipe, result: Path, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Predict:
    """The likeliest entities for what a row lacks, its tail or its head."""
    ranking = KgModel.beside(model, result, tokenizer)

    def predict(rows: Sequence[Asked]) -> list[dict[str, Any]]:
        found = ranking.best([row.encoded.apart()[0] for row in rows])
        return [{"entities": [{"entity": name, "score": score} for name, score in each]} for each in found]

    return predict
