"""`model:` which model is trained, and how its weights are stored."""

from typing import Any, Literal

from pydantic import Field

from trainer.config.section import Section


class NewTokenizer(Section):
    """A byte-level BPE tokenizer trained on the training rows before the first step."""

    vocab_size: int = Field(8192, ge=300)
    """Entries of the vocabulary, special tokens included."""


class Model(Section):
    """Either `name` (pretrained weights) or `config` (a new model with random weights)."""

    name: str | None = None
    """A transformers folder or a hub id."""
    revision: str | None = None
    """The branch, tag or commit of a hub id; null takes its default."""
    config: dict[str, Any] | None = None
    """A new model: its `model_type` and the settings of that transformers configuration; the vocabulary size and
    special tokens come from the tokenizer."""
    tokenizer: str | NewTokenizer | None = None
    """A folder or hub id, or a mapping that trains a new one; null takes the one of `name`."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """How weights are stored and saved."""
    attention: Literal["auto", "segments", "flash", "flex", "sdpa", "eager"] = "auto"
    """For packed rows, where each example attends to itself alone: segments, example by example on any device; flash, a
    kernel of variable lengths (the package flash-attn where it is installed, else torch's own), for CUDA and half
    precision; flex, torch's flex_attention, for CUDA. For padded rows: sdpa and eager, those of transformers. auto: the
    fastest of them that the device and the model have."""
    add_tokens: tuple[str, ...] = ()
    """Tokens that the tokenizer gets besides its own; their embeddings begin as the mean of all others and train, also
    beside an adapter."""
    trust_remote_code: bool = False
    """Whether code that ships with the model's folder may run."""
