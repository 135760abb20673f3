"""What a run over entities and relations made: it reads both in sentences."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.config.recipe import Recipe
from trainer.tasks.answering import Answering
from trainer.tasks.heads import read_heads, read_settings
from trainer.tasks.joint_relations import SentenceReader
from trainer.tasks.objective import Asked, Predict
from trainer.tasks.tag_model import starts_of, told


class JointModel(Answering):
    """A body with its heads and its tokenizer.

    model = JointModel.from_pretrained("runs/joint/model")
    model.predict([["Ada", "works", "in", "London"]])
    """

    def __init__(self, module: SentenceReader, tokenizer: PreTrainedTokenizerBase, relations: Sequence[str]) -> None:
        super().__init__(module, tokenizer)
        self.module, self.relations = module, tuple(relations)

    @classmethod
    def beside(cls, body: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> "JointModel":
        """A loaded body with the heads of a folder."""
        settings = read_settings(folder)
        module = SentenceReader(body, settings["tags"], settings["relations"])
        read_heads(folder, module.heads)
        return cls(module, tokenizer, settings["relations"])

    @torch.inference_mode()
    def told(self, rows: Sequence[Asked]) -> list[dict[str, Any]]:
        """The entities of each row, and its relations with head and tail by their number among those."""
        batch = self.batch(rows)
        there, seen = starts_of(rows, batch.input_ids.shape)
        logits, scores, _ = self.module.read(batch, there.to(self.device))
        found = []
        for own, numbers, pairs in zip(told("bio", self.module.tags, rows, logits, None), seen, scores, strict=True):
            word_of = {word: place for place, word in enumerate(numbers)}
            begins = [word_of[entity["start"]] for entity in own["entities"]]
            sure = pairs[begins][:, begins].sigmoid()
            sure.diagonal(dim1=0, dim2=1).zero_()
            relations = [
                {"type": self.relations[kind], "head": head, "tail": tail, "score": float(sure[head, tail, kind])}
                for head, tail, kind in (sure > 0.5).nonzero().tolist()
            ]
            found.append({"entities": own["entities"], "relations": relations})
        return found

    def predict(self, rows: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        """The same for lists of words."""
        return self.told(self.asked(rows))


def predictor(recipe: Recipe, result: Path, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Predict:
    """The entities of each row, and how they are related."""
    return JointModel.beside(model, result, tokenizer).told
