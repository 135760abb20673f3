"""What a model takes of images that stand without a text."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoImageProcessor, ViTImageProcessor

from trainer.config.recipe import Recipe
from trainer.data.images import Image, Unreadable, load
from trainer.errors import Problem, RecipeError, RunError

if TYPE_CHECKING:
    from trainer.data.images import Pixels

ImagesOf = Callable[[int], tuple[Image, ...]]
"""The images of an example by its number in a split."""


def loaded(images: Sequence[Image]) -> "tuple[Pixels, ...]":
    """Their pixels; RunError where one is gone since the rows were prepared."""
    found = []
    for image in images:
        try:
            found.append(load(image))
        except Unreadable as error:
            message = f"{image.name}, an image that was there when the rows were prepared, {error}"
            raise RunError(f"{message}; put it back") from error
    return tuple(found)


class Looks:
    """The image processor of one model."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    @classmethod
    def of(cls, recipe: Recipe) -> "Looks":
        """That of the recipe's model, or of a new one: its own size, colours from -1 to 1; RecipeError without any."""
        model = recipe.model
        if model.name is None:
            side = dict(model.config or {}).get("image_size", 224)
            return cls(ViTImageProcessor(size={"height": side, "width": side}))
        try:
            processor = AutoImageProcessor.from_pretrained(
                model.name, revision=model.revision, trust_remote_code=model.trust_remote_code
            )
        except (OSError, ValueError, ImportError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            message = f"{model.name}: its image processor does not load: {reason}"
            raise RecipeError([Problem("model.name", message)]) from error
        return cls(processor)

    def at(self, images: Sequence[Image]) -> dict[str, torch.Tensor]:
        """The pixels [B, 3, height, width]; of no image those of a blank one."""
        import PIL.Image

        pixels = loaded(images) or (PIL.Image.new("RGB", (8, 8)),)
        return {"pixel_values": self.processor(images=list(pixels), return_tensors="pt")["pixel_values"]}
