"""What a model sees of images: the tokens that stand for each in a text, and what is taken of the pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.data.encoded import Encoded
from trainer.data.images import Image
from trainer.data.runs import Around
from trainer.errors import Problem, RecipeError
from trainer.tasks.looks import loaded

if TYPE_CHECKING:
    from trainer.data.images import Pixels

_PROBED = ((24, 16), (40, 56))
"""Sizes of images that a processor is tried on."""


@dataclass(frozen=True)
class Seen:
    """An example with the tokens of its images."""

    row: Encoded
    images: "tuple[Pixels, ...]"


class Eyes:
    """The processor of one model."""

    def __init__(self, processor: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        """RecipeError where the model's processor puts texts and images together in another way."""
        self.processor, self.tokenizer = processor, tokenizer
        self.mark: str = processor.image_token
        self.token = int(tokenizer.convert_tokens_to_ids(self.mark))
        around = Around.one(tokenizer)
        self._start, self._end = len(around.start.ids), len(around.end.ids)
        self._known: dict[tuple[int, int], np.ndarray[Any, np.dtype[np.int32]]] = {}
        self._check()
        self.blank = self._blank()
        """An example that is an image alone, and of which nothing is learned."""

    def see(self, example: Encoded, images: Sequence[Image]) -> Seen:
        """The example with the tokens of its images in the place of their marks; what a cut left out is not loaded."""
        marks = np.flatnonzero(example.tokens == self.token)
        pixels = loaded(images[: len(marks)])
        return Seen(self._widened(example, marks, pixels), pixels)

    def inputs(self, input_ids: torch.Tensor, images: "Sequence[Pixels]") -> dict[str, torch.Tensor]:
        """What the model takes besides tokens [B, S] and their mask."""
        taken: dict[str, torch.Tensor] = {}
        if images:
            taken = dict(self.processor.image_processor(images=list(images), return_tensors="pt"))
        if "mm_token_type_ids" in self._names():
            # Which tokens stand for images.
            taken["mm_token_type_ids"] = (input_ids == self.token).long()
        return taken

    def _widened(self, example: Encoded, marks: Any, pixels: "Sequence[Pixels]") -> Encoded:
        pieces: list[Encoded] = []
        before = 0
        for place, image in zip(marks.tolist(), pixels, strict=True):
            tokens = self._tokens_of(image)
            stands = example.at(np.full(len(tokens), place))
            pieces += [
                example.at(slice(before, place)),
                replace(stands, tokens=tokens, learned=np.zeros(len(tokens), bool)),
            ]
            before = place + 1
        pieces.append(example.at(slice(before, None)))
        names = [name for name in ("tokens", "learned", "types") if getattr(example, name) is not None]
        joined: dict[str, Any] = {name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in names}
        return replace(example, **joined)

    def _tokens_of(self, image: "Pixels") -> np.ndarray[Any, np.dtype[np.int32]]:
        """They depend on the size of an image alone."""
        if image.size not in self._known:
            ids = self.processor(text=[self.mark], images=[image])["input_ids"][0]
            self._known[image.size] = np.array(ids[self._start : len(ids) - self._end], dtype=np.int32)
        return self._known[image.size]

    def _blank(self) -> Seen:
        import PIL.Image

        image = PIL.Image.new("RGB", _PROBED[0])
        tokens = self._tokens_of(image)
        return Seen(Encoded(tokens, np.zeros(len(tokens), dtype=np.bool_)), (image,))

    def _names(self) -> list[str]:
        return list(getattr(self.processor, "model_input_names", ()))

    def _check(self) -> None:
        """Compares one text with one image and one with two to what the processor itself makes of them."""
        import PIL.Image

        one, two = (
            PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
            for size in _PROBED
        )
        texts, images = (f"a {self.mark} b", f"{self.mark} a {self.mark} b"), ((one,), (two, one))
        rows = []
        for text, some in zip(texts, images, strict=True):
            ids = np.array(self.tokenizer(text)["input_ids"], dtype=np.int32)
            row = Encoded(ids, np.zeros(len(ids), dtype=np.bool_))
            rows.append(self._widened(row, np.flatnonzero(ids == self.token), some).tokens.tolist())
        ours = self.processor.image_processor(images=[one, two, one], return_tensors="pt")
        nested = [list(some) for some in images]
        theirs = self.processor(text=list(texts), images=nested, padding=True, return_tensors="pt")
        own = theirs["attention_mask"].bool()
        same = rows == [ids[mask].tolist() for ids, mask in zip(theirs["input_ids"], own, strict=True)]
        if not same or any(not _equal(ours[name], theirs.get(name)) for name in ours):
            message = f"has a {type(self.processor).__name__}, which lays images out in a way that is not known here"
            raise RecipeError([Problem("model.name", f"{message}; name a model such as LLaVA or Qwen2-VL")])


def _equal(one: Any, other: Any) -> bool:
    return isinstance(other, torch.Tensor) and one.shape == other.shape and bool(torch.equal(one, other))
