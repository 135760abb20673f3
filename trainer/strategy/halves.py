"""The two halves of an encoder-decoder."""

from collections.abc import Sequence

from trainer.errors import Problem, RecipeError
from trainer.parameter import Parameter


def of(listed: Sequence[Parameter], half: str) -> list[Parameter]:
    """The parameters of one half; a head that shares no weights with the embeddings is the decoder's.

    Raises:
        RecipeError: the model is no encoder-decoder.
    """
    halves = {one.half for one in listed if not one.sees}
    if not {"encoder", "decoder"} <= halves:
        has = "an encoder and no decoder" if "encoder" in halves else "a decoder alone"
        message = f"{half}_only is for encoder-decoders such as T5, and this model is {has}; set it to partial or full"
        raise RecipeError([Problem("strategy.kind", message)])
    heads = half == "decoder"
    return [one for one in listed if one.half == half or (heads and one.part == "head")]
