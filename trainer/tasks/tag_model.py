"""What a run over tags made: it tells the tag of each word."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.config.recipe import Recipe
from trainer.config.token_labels import OUTSIDE, TokenLabels
from trainer.data.batches import Batch, batch_of
from trainer.data.packing import Layout
from trainer.data.tokenizer import padding_of
from trainer.data.words import need_spaces, with_spaces
from trainer.tasks import tag_metrics
from trainer.tasks.heads import WEIGHTS, read_heads, read_settings
from trainer.tasks.objective import Asked, Predict
from trainer.tasks.token_labels import Tagger, by_rows


class TagModel:
    """What a finished run made: a model with its tokenizer, and the field of one with `task.head: crf`.

    model = TagModel.from_pretrained("runs/ner/model")
    model.predict([["Ada", "works", "in", "London"]])
    """

    def __init__(self, module: Tagger, tokenizer: PreTrainedTokenizerBase, names: Sequence[str]) -> None:
        self.module, self.tokenizer, self.names = module.eval(), tokenizer, tuple(names)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "TagModel":
        """The model of a folder that a run saved; OSError where it holds none."""
        place = Path(folder)
        model = AutoModelForTokenClassification.from_pretrained(place)
        return cls.beside(model, place, AutoTokenizer.from_pretrained(place))

    @classmethod
    def beside(cls, model: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> "TagModel":
        """A loaded model with the field of a folder, where there is one."""
        names = [model.config.id2label[number] for number in range(model.config.num_labels)]
        field = (folder / WEIGHTS).is_file()
        scheme = read_settings(folder)["scheme"] if field else "none"
        settings = TokenLabels(kind="token_labels", scheme=scheme, head="crf" if field else "linear")
        module = Tagger(model, names, settings)
        if field:
            read_heads(folder, module.heads)
        return cls(module.to(model.device), tokenizer, names)

    @torch.inference_mode()
    def predict(self, rows: Sequence[Sequence[str]]) -> list[list[str]]:
        """The tag of each word; of one that the tokenizer leaves out, and of those past the end, the first tag."""
        spaced = need_spaces(self.tokenizer.backend_tokenizer)
        texts = [with_spaces(row) if spaced else list(row) for row in rows]
        taken = self.tokenizer(texts, is_split_into_words=True, padding=True, return_tensors="pt")
        ids, mask = (taken[name].to(self.module.model.device) for name in ("input_ids", "attention_mask"))
        numbers = [[-1 if word is None else word for word in taken.word_ids(place)] for place in range(len(rows))]
        there = torch.from_numpy(np.stack([begins(np.array(own)) for own in numbers])).to(ids.device)
        logits = self.module.logits(Batch(ids, ids, ids, mask, None, int(mask.sum()))).float()
        said = [row.tolist() for row in self.module.said(logits, there)]
        found = []
        for row, own, begun, tags_of in zip(rows, numbers, there.tolist(), said, strict=True):
            tag_of = dict(zip((word for word, first in zip(own, begun, strict=True) if first), tags_of, strict=True))
            found.append([self.names[tag_of.get(word, 0)] for word in range(len(row))])
        return found


def begins(words: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Which tokens begin a word [S], by the number of each one's word, -1 for special tokens [S]."""
    begun: np.ndarray[Any, Any] = (words >= 0) & np.append(True, words[1:] != words[:-1])
    return begun


def predictor(recipe: Recipe, result: Path, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Predict:
    """The tag of each word, and the entities; without a field, how sure the model is of each."""
    assert isinstance(recipe.task, TokenLabels), "the table names the kind"
    scheme, tagger = recipe.task.scheme, TagModel.beside(model, result, tokenizer)
    layout = Layout(global_=1, micro=1, packing=False, micro_tokens=1, pad=padding_of(tokenizer))
    said = tagger.module.said if tagger.module.heads else None

    def predict(rows: Sequence[Asked]) -> list[dict[str, Any]]:
        batch = batch_of([row.encoded for row in rows], layout).to(model.device)
        return told(scheme, tagger.names, rows, tagger.module.logits(batch).float(), said)

    return predict


def told(
    scheme: str,
    names: Sequence[str],
    rows: Sequence[Asked],
    logits: torch.Tensor,
    said: Callable[[torch.Tensor, torch.Tensor], list[torch.Tensor]] | None,
) -> list[dict[str, Any]]:
    """The tag of each word, of logits [B, S, L]: the likeliest, or what `said` makes of all those of a row."""
    there, found = torch.zeros(logits.shape[:2], dtype=torch.bool, device=logits.device), []
    for place, row in enumerate(rows):
        assert row.encoded.words is not None, "the rows have words"
        there[place, : len(row.encoded.words)] = torch.from_numpy(begins(row.encoded.words))
    tags_of_rows = by_rows(logits.argmax(dim=-1)[there], there) if said is None else said(logits, there)
    for row, own, begun, chance in zip(rows, tags_of_rows, there, logits.softmax(dim=-1), strict=True):
        assert row.encoded.words is not None, "the rows have words"
        numbers = row.encoded.words[begun[: len(row.encoded.words)].cpu().numpy()].tolist()
        tag_of = dict(zip(numbers, own.tolist(), strict=True))
        # A word without a token, or past `data.max_length`, was not seen.
        tags_of = [names[tag_of[word]] if word in tag_of else None for word in range(len(row.words))]
        told_of: dict[str, Any] = {"tags": tags_of}
        if scheme == "bio":
            best = dict(zip(numbers, chance[begun].max(dim=-1).values.tolist(), strict=True))
            told_of["entities"] = _entities(row.words, tags_of, best if said is None else {})
        found.append(told_of)
    return found


def _entities(words: Sequence[str], tags: Sequence[str | None], sure: Mapping[int, float]) -> list[dict[str, Any]]:
    """Type, words and mean probability of each entity; `sure` is empty where nobody knows that."""
    found = []
    for kind, start, end in tag_metrics.entities([tag or OUTSIDE for tag in tags]):
        told = {"type": kind, "start": start, "end": end, "text": " ".join(words[start:end])}
        score = {"score": float(np.mean([sure[word] for word in range(start, end)]))} if sure else {}
        found.append({**told, **score})
    return found
