"""The next token of answers about images: each image stands in the text as so many tokens as the model sees of it.

B examples, S tokens with those of images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoProcessor, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.config.recipe import Recipe
from trainer.data.batches import IGNORED, Batch, Collate, batch_of
from trainer.data.corpus import Corpus
from trainer.data.encoded import Encoded
from trainer.data.images import Image
from trainer.data.packing import Layout
from trainer.data.tokenizer import padding_of
from trainer.errors import Problem, RecipeError
from trainer.kernels import library
from trainer.model.attention import own_attention
from trainer.tasks.causal_lm import CausalLM, NextToken, gap
from trainer.tasks.eyes import Eyes
from trainer.tasks.looks import ImagesOf
from trainer.tasks.objective import Asked, Predict
from trainer.tasks.writing import Writer


class AnswersAboutImages(NextToken):
    """The objective."""

    def __init__(self, eyes: Eyes, images: Mapping[str, ImagesOf], tokenizer: PreTrainedTokenizerBase | None) -> None:
        """`images` of each example of the splits."""
        super().__init__(tokenizer)
        self.eyes, self.processor, self._images = eyes, eyes.processor, images

    def collate(self, split: str) -> Collate:
        """As the protocol says; what the model takes of the images stands in `Batch.more`."""
        images_of = self._images[split]

        def seen(rows: Sequence[int], examples: Sequence[Encoded], layout: Layout, epoch: int) -> Batch:
            return self.seen(examples, [images_of(row) for row in rows], layout)

        return seen

    def seen(self, examples: Sequence[Encoded], images: Sequence[Sequence[Image]], layout: Layout) -> Batch:
        """Examples with the images of each."""
        looked = [self.eyes.see(*pair) for pair in zip(examples, images, strict=True)]
        tokens = sum(len(one.row.tokens) for one in looked)
        if not any(one.images for one in looked):
            # All ranks run the same modules, so that each looks at an image, if only at one that says nothing.
            looked.append(self.eyes.blank)
        batch, pixels = batch_of([one.row for one in looked], layout), [one.images for one in looked]
        more = self.eyes.inputs(batch.input_ids, list(chain.from_iterable(pixels)))
        return replace(batch, tokens=tokens, more=more)

    def module(self, model: PreTrainedModel, compute: torch.dtype | None, *, whole: bool) -> nn.Module:
        """As the protocol says."""
        self.writer = None if self.tokenizer is None else Writer(model, self.tokenizer, whole=whole)
        return SeeingLM(model, compute, whole=whole)


def objective(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> AnswersAboutImages:
    """The objective of a recipe; RecipeError where the model has no processor, or one that is not known here."""
    if recipe.model.name is None:
        message = "is needed: a model that sees comes with a processor, and that of a new model is not known"
        raise RecipeError([Problem("model.name", message)])
    trusted = recipe.model.trust_remote_code
    try:
        processor = AutoProcessor.from_pretrained(
            recipe.model.name, revision=recipe.model.revision, trust_remote_code=trusted
        )
    except (OSError, ValueError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RecipeError(
            [Problem("model.name", f"{recipe.model.name}: its processor does not load: {reason}")]
        ) from error
    if getattr(processor, "image_token", None) is None:
        message = f"{recipe.model.name} sees no images: it comes without a processor for them; name a model that does"
        raise RecipeError([Problem("model.name", message)])
    images = {split: corpus.images(split).of for split in corpus.rows}
    return AnswersAboutImages(Eyes(processor, tokenizer), images, tokenizer)


def predictor(recipe: Recipe, result: Path, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Predict:
    """What a finished run answers, in micro-batches."""
    eyes = Eyes(AutoProcessor.from_pretrained(result), tokenizer)
    answering = AnswersAboutImages(eyes, {}, tokenizer)
    answering.module(model, None, whole=True)
    layout = Layout.padded(padding_of(tokenizer))

    def predict(rows: Sequence[Asked]) -> list[dict[str, Any]]:
        found = []
        for start in range(0, len(rows), recipe.batch.micro):
            some = rows[start : start + recipe.batch.micro]
            batch = answering.seen([row.encoded for row in some], [row.images for row in some], layout)
            written = answering.write(replace(batch, rows=tuple(range(len(some)))), recipe.evaluate.answer_tokens)
            found += [{"answer": one.answer} for one in written]
        return found

    return predict


class SeeingLM(CausalLM):
    """A language model that sees, and its loss; rows are padded."""

    leaves_unused = True
    """Some look at images with all but the last of their layers."""

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        """What transformers' forward takes of a micro-batch."""
        taken = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "use_cache": False}
        return {**taken, **batch.more}

    @torch.no_grad()
    def compare_with_own_logits(self, batch: Batch) -> tuple[tuple[float, float], float]:
        """The largest relative differences of our hidden states and logits to the model's own, and what is allowed."""
        training, wanted = self.training, batch.targets != IGNORED
        self.eval()
        with self._precision(batch.input_ids.device):
            ours = self.model.base_model(**self._inputs(batch)).last_hidden_state[wanted]
            with own_attention(self.model), library.turned_off():
                body = self.model.base_model(**self._inputs(batch)).last_hidden_state[wanted]
                logits = self.model(**self._inputs(batch)).logits[wanted]
            head = self.head.logits(body)
        self.train(training)
        reduced = (self.compute or next(self.model.parameters()).dtype) != torch.float32
        gaps = [gap(ours, body), gap(head, logits)]
        return (gaps[0], gaps[1]), 0.05 if reduced else 1e-4
