"""What a run of several tasks made: one body that answers each of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import safe_open
from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.config.multi_task import Member
from trainer.config.recipe import Recipe
from trainer.tasks import classify, relations, tag_model
from trainer.tasks.answering import Answering
from trainer.tasks.heads import WEIGHTS, read_heads, read_settings
from trainer.tasks.multi_task import VARIANCES, SharedBody, member_without_rows
from trainer.tasks.objective import Asked, Predict
from trainer.tasks.relations import OfRelations
from trainer.tasks.token_labels import OfTags


class MultiTaskModel(Answering):
    """A body with the heads of several tasks, and the tokenizer.

    model = MultiTaskModel.from_pretrained("runs/my/model")
    model.predict("headlines", ["scientists baffled by own results"])
    model.predict("entities", [["Ada", "works", "in", "London"]])
    """

    def __init__(self, module: SharedBody, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(module, tokenizer)
        self.module = module

    @classmethod
    def beside(cls, body: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> "MultiTaskModel":
        """A loaded body with the heads of a folder."""
        members = {}
        for name, settings in read_settings(folder).items():
            task = TypeAdapter(Member).validate_python(settings)
            members[name] = member_without_rows(task, settings["labels"], tokenizer)
        module = SharedBody(body, members, learned=_has_variances(folder))
        read_heads(folder, module.heads)
        return cls(module, tokenizer)

    def predict(self, name: str, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """What a task says to texts, or to lists of words; ValueError for a name that is none."""
        if name not in self.module.members:
            raise ValueError(f"{name} is no task of this model; it has {', '.join(self.module.members)}")
        texts = relations.marked(rows) if isinstance(self.module.members[name], OfRelations) else rows
        return self.told(name, self.asked(texts))

    @torch.inference_mode()
    def told(self, name: str, rows: Sequence[Asked]) -> list[dict[str, Any]]:
        """What a task says to rows."""
        member = self.module.members[name]
        logits = self.module.logits(self.batch(rows))[name].float()
        if isinstance(member, OfTags):
            return tag_model.told(member.settings.scheme, member.names, rows, logits, None)
        if isinstance(member, OfRelations):
            return relations.told(member.names, logits.softmax(dim=1))
        return classify.told(member.settings, member.names, logits)


def _has_variances(folder: Path) -> bool:
    with safe_open(folder / WEIGHTS, "pt") as held:
        return any(name.startswith(f"{VARIANCES}.") for name in [*held.keys()])


def predictor(recipe: Recipe, result: Path, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Predict:
    """What the task of the rows says to them."""
    shared = MultiTaskModel.beside(model, result, tokenizer)

    def predict(rows: Sequence[Asked]) -> list[dict[str, Any]]:
        return shared.told(rows[0].task, rows)

    return predict
