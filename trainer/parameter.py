"""One parameter of a model: its name, its shape, and what these tell of its place; without weights and without torch.

Names are those of transformers' `model.named_parameters()`. All is a function of the name alone, so that the plan and
the strategies agree.
"""

import math
import re
from dataclasses import dataclass

# The first number in a name that stands for itself is that of a layer in its stack.
_LAYER = re.compile(r"^(?:(.*?)\.)?(\d+)\.")
_HEADS = r"^heads\.|(?:^|\.)(?:lm_head|score|classifier|classification_head|qa_outputs|cls|embed_out)(?:\.|$)"
# The first pattern that fits says the part: a head's own norm is the head's, a norm inside attention is a norm.
_PARTS = (
    ("head", re.compile(_HEADS)),
    ("norms", re.compile(r"norm|(?:^|[._])ln(?:_|\.|$)", re.IGNORECASE)),
    ("attention", re.compile(r"attn|attention", re.IGNORECASE)),
    ("embeddings", re.compile(r"embed|(?:^|\.)(?:wte|wpe|shared)\.", re.IGNORECASE)),
    ("pooler", re.compile(r"(?:^|\.)pooler\.")),
    ("mlp", re.compile(r"mlp|ffn|feed_forward|fc\d|intermediate|(?:^|\.)output\.|dense|expert|moe", re.IGNORECASE)),
)
_POSITIONS = re.compile(r"(?:^|\.)wpe\.|position|token_type")
_CROSS = re.compile(r"EncDecAttention|encoder_attn|cross_?attn|cross_?attention", re.IGNORECASE)
_VISION = re.compile(r"(?:^|\.)(?:vision|visual|image)\w*\.")
_PROJECTOR = re.compile(r"projector|connector|merger")


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

    @property
    def stack(self) -> str | None:
        """What the layers are called that it belongs to, such as `model.layers`; None outside of any."""
        match = None if self.depth is None else _LAYER.search(self.name)
        return match and (match[1] or "")

    @property
    def half(self) -> str | None:
        """Encoder or decoder, where its name has one of the two; None for what both share, and in other models."""
        words = self.name.split(".")
        return next((word for word in words if word in ("encoder", "decoder")), None)

    @property
    def sees(self) -> bool:
        """Whether it looks at images."""
        return _VISION.search(self.name) is not None and not self.projects

    @property
    def projects(self) -> bool:
        """Whether it brings what was seen to a language model."""
        return _PROJECTOR.search(self.name) is not None

    @property
    def crosses(self) -> bool:
        """Whether it belongs to the attention of a decoder to its encoder."""
        return _CROSS.search(self.name) is not None


def depth_of(name: str) -> int | None:
    """The layer's number in a parameter's name, counted from the bottom of its stack; None outside the layers."""
    match = None if part_of(name) == "head" or _PROJECTOR.search(name) else _LAYER.search(name)
    return int(match[2]) if match else None


def part_of(name: str) -> str:
    """Which part of the model a parameter belongs to: embeddings, attention, mlp, norms, head, pooler or other."""
    return next((part for part, pattern in _PARTS if pattern.search(name)), "other")


def parameter(name: str, shape: tuple[int, ...]) -> Parameter:
    """A parameter with the depth and the part that its name says."""
    return Parameter(name, shape, depth_of(name), part_of(name))


def by_token(one: Parameter) -> bool:
    """Whether a matrix has a row for each token of the vocabulary: embeddings and head, not those of positions."""
    return len(one.shape) == 2 and one.part in ("embeddings", "head") and not _POSITIONS.search(one.name)
