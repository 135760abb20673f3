"""The parameters of a model: name, shape, depth and part, known without its weights and without torch.

Names are those of transformers' `model.named_parameters()`, tied ones once. Depth and part are functions of the name
alone, so that the plan and the strategies agree on them.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from trainer.config.model import Model, NewTokenizer
from trainer.errors import Problem, RecipeError
from trainer.plan import architectures, pretrained

_DEPTH = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(\d+)\.")
# The first pattern that fits says the part: a head's own norm is the head's, a norm inside attention is a norm.
_PARTS = (
    ("head", re.compile(r"(?:^|\.)(?:lm_head|score|classifier|qa_outputs|cls|embed_out)(?:\.|$)")),
    ("norms", re.compile(r"norm|(?:^|[._])ln(?:_|\.|$)", re.IGNORECASE)),
    ("attention", re.compile(r"attn|attention", re.IGNORECASE)),
    ("embeddings", re.compile(r"embed|(?:^|\.)(?:wte|wpe|shared)\.", re.IGNORECASE)),
    ("pooler", re.compile(r"(?:^|\.)pooler\.")),
    ("mlp", re.compile(r"mlp|ffn|feed_forward|fc\d|intermediate|(?:^|\.)output\.|dense|expert|moe", re.IGNORECASE)),
)
_POSITIONS = re.compile(r"(?:^|\.)wpe\.|position|token_type")
# Tensors of older files that are buffers or nothing at all in the model.
_BUFFERS = re.compile(
    r"(?:inv_freq|position_ids|token_type_ids|masked_bias|\.attn\.bias|running_mean|running_var|num_batches_tracked)$"
)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a model."""

    name: str
    """As in `model.named_parameters()`."""
    shape: tuple[int, ...]
    depth: int | None
    """The layer's number, counted from the bottom of its stack; None outside the layers."""
    part: str
    """embeddings, attention, mlp, norms, head, pooler or other."""

    @property
    def size(self) -> int:
        """Values that it holds."""
        return math.prod(self.shape)


def depth_of(name: str) -> int | None:
    """The layer's number in a parameter's name, counted from the bottom of its stack; None outside the layers."""
    match = _DEPTH.search(name)
    return int(match[1]) if match else None


def part_of(name: str) -> str:
    """Which part of the model a parameter belongs to: embeddings, attention, mlp, norms, head, pooler or other."""
    return next((part for part, pattern in _PARTS if pattern.search(name)), "other")


def parameter(name: str, shape: tuple[int, ...]) -> Parameter:
    """A parameter with the depth and the part that its name says."""
    return Parameter(name, shape, depth_of(name), part_of(name))


def of_model(model: Model, vocabulary: int | None) -> list[Parameter] | None:
    """The parameters of the recipe's model; None while they are unknown (a hub id that is not downloaded).

    `vocabulary` is the number of entries of the tokenizer with `model.add_tokens`, where it is known.

    Raises:
        RecipeError: no model lies where the recipe points, or its settings cannot be built.
    """
    if model.name is not None:
        folder = pretrained.folder(model)
        if folder is None:
            return None
        listed = _of_folder(pretrained.settings(folder), pretrained.shapes(folder))
        return _with_new_tokens(listed, model, vocabulary or pretrained.vocabulary(folder, model))
    assert model.config is not None, "a model has a name or a config"
    wrong = architectures.problems(model.config)
    if wrong:
        raise RecipeError(wrong)
    if vocabulary is None and isinstance(model.tokenizer, NewTokenizer):
        vocabulary = model.tokenizer.vocab_size + len(model.add_tokens)
    if vocabulary is None:
        return None
    return _listed(architectures.shapes({**model.config, "vocab_size": vocabulary}))


def problems(model: Model) -> list[Problem]:
    """What is wrong with the recipe's model as far as this machine can see; the same checks as `of_model`."""
    try:
        of_model(model, None)
    except RecipeError as error:
        return list(error.problems)
    return []


def _of_folder(settings: dict[str, object], stored: dict[str, tuple[int, ...]] | None) -> list[Parameter] | None:
    """By formula where there is one, since files of other versions may name the same weights otherwise."""
    packed = "quantization_config" in settings
    formula = _listed(architectures.shapes(settings))
    if formula is not None:
        if stored is not None and not packed:
            _agree(formula, stored)
        return formula
    if stored is None or packed:
        return None
    kept = {name: shape for name, shape in stored.items() if not _BUFFERS.search(name)}
    if settings.get("tie_word_embeddings") is True:
        kept.pop("lm_head.weight", None)
    return _listed(kept.items())


def by_token(one: Parameter) -> bool:
    """Whether a matrix has a row for each token of the vocabulary: embeddings and head, not those of positions."""
    return len(one.shape) == 2 and one.part in ("embeddings", "head") and not _POSITIONS.search(one.name)


def _with_new_tokens(listed: list[Parameter] | None, model: Model, vocabulary: int | None) -> list[Parameter] | None:
    """The parameters with rows for `model.add_tokens`, where the model has none to spare."""
    if listed is None or not model.add_tokens:
        return listed
    if vocabulary is None:
        return None
    return [
        replace(one, shape=(max(one.shape[0], vocabulary), one.shape[1])) if by_token(one) else one for one in listed
    ]


def _agree(formula: list[Parameter], stored: dict[str, tuple[int, ...]]) -> None:
    differing = [one for one in formula if stored.get(one.name, one.shape) != one.shape]
    if differing:
        one = differing[0]
        message = (
            f"config.json makes {one.name} {list(one.shape)} where the weight files hold {list(stored[one.name])}"
            f" ({len(differing)} such); take both from the same model"
        )
        raise RecipeError([Problem("model.name", message)])


def _listed(shapes: Iterable[tuple[str, tuple[int, ...]]] | None) -> list[Parameter] | None:
    return None if shapes is None else [parameter(name, shape) for name, shape in shapes]
