"""What a run over tags made: it tells the tag of each word."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForTokenClassification, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.config.recipe import Recipe
from trainer.config.token_labels import OUTSIDE, TokenLabels
from trainer.data.words import begins
from trainer.tasks import tag_metrics
from trainer.tasks.answering import Answering
from trainer.tasks.heads import WEIGHTS, read_heads, read_settings
from trainer.tasks.objective import Asked, Predict
from trainer.tasks.token_labels import Tagger, by_rows


class TagModel(Answering):
    """What a finished run made: a model with its tokenizer, and the field of one with `task.head: crf`.

    model = TagModel.from_pretrained("runs/ner/model")
    model.predict([["Ada", "works", "in", "London"]])
    """

    body = AutoModelForTokenClassification

    def __init__(self, module: Tagger, tokenizer: PreTrainedTokenizerBase, names: Sequence[str]) -> None:
        super().__init__(module, tokenizer)
        self.module, self.names = module, tuple(names)

    @classmethod
    def beside(cls, body: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> "TagModel":
        """A loaded model with the field of a folder, where there is one."""
        names = [body.config.id2label[number] for number in range(body.config.num_labels)]
        field = (folder / WEIGHTS).is_file()
        scheme = read_settings(folder)["scheme"] if field else "none"
        settings = TokenLabels(kind="token_labels", scheme=scheme, head="crf" if field else "linear")
        module = Tagger(body, names, settings)
        if field:
            read_heads(folder, module.heads)
        return cls(module, tokenizer, names)

    @torch.inference_mode()
    def told(self, rows: Sequence[Asked], scheme: str) -> list[dict[str, Any]]:
        """The tag of each word, and with a scheme the entities; without a field, how sure the model is of each."""
        said = self.module.said if self.module.heads else None
        return told(scheme, self.names, rows, self.module.logits(self.batch(rows)).float(), said)

    def predict(self, rows: Sequence[Sequence[str]]) -> list[list[str]]:
        """The tag of each word; of one that the tokenizer leaves out the first tag: O where there is one."""
        found = self.told(self.asked(rows), "none")
        return [[tag or self.names[0] for tag in each["tags"]] for each in found]


def predictor(recipe: Recipe, result: Path, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Predict:
    """The tag of each word, and the entities; without a field, how sure the model is of each."""
    assert isinstance(recipe.task, TokenLabels), "the table names the kind"
    scheme, tagger = recipe.task.scheme, TagModel.beside(model, result, tokenizer)

    def predict(rows: Sequence[Asked]) -> list[dict[str, Any]]:
        return tagger.told(rows, scheme)

    return predict


def told(
    scheme: str,
    names: Sequence[str],
    rows: Sequence[Asked],
    logits: torch.Tensor,
    said: Callable[[torch.Tensor, torch.Tensor], list[torch.Tensor]] | None,
) -> list[dict[str, Any]]:
    """The tag of each word, of logits [B, S, L]: the likeliest, or what `said` makes of all those of a row."""
    there, seen = starts_of(rows, logits.shape)
    tags_of_rows, found = by_rows(logits.argmax(dim=-1)[there], there) if said is None else said(logits, there), []
    sure = by_rows(logits.softmax(dim=-1)[there].max(dim=-1).values, there)
    for row, numbers, own, chances in zip(rows, seen, tags_of_rows, sure, strict=True):
        tag_of = dict(zip(numbers, own.tolist(), strict=True))
        # A word without a token, or past `data.max_length`, was not seen.
        tags_of = [names[tag_of[word]] if word in tag_of else None for word in range(len(row.words))]
        told_of: dict[str, Any] = {"tags": tags_of}
        if scheme == "bio":
            best = dict(zip(numbers, chances.tolist(), strict=True))
            told_of["entities"] = entities_of(row.words, tags_of, best if said is None else {})
        found.append(told_of)
    return found


def starts_of(rows: Sequence[Asked], shape: Sequence[int]) -> tuple[torch.Tensor, list[list[int]]]:
    """Which of B x S tokens begin a word [B, S], and the number of each such word, by row; `shape` begins with both."""
    there, seen = torch.zeros(*shape[:2], dtype=torch.bool), []
    for place, row in enumerate(rows):
        assert row.encoded.words is not None, "the rows have words"
        begun = begins(row.encoded.words)
        there[place, : len(begun)] = torch.from_numpy(begun)
        seen.append(row.encoded.words[begun].tolist())
    return there, seen


def entities_of(words: Sequence[str], tags: Sequence[str | None], sure: Mapping[int, float]) -> list[dict[str, Any]]:
    """Type, words and mean probability of each entity; `sure` is empty where nobody knows that."""
    found = []
    for kind, start, end in tag_metrics.entities([tag or OUTSIDE for tag in tags]):
        told = {"type": kind, "start": start, "end": end, "text": " ".join(words[start:end])}
        score = {"score": float(np.mean([sure[word] for word in range(start, end)]))} if sure else {}
        found.append({**told, **score})
    return found
