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
    attention: Literal["auto", "segments", "sdpa", "eager"] = "auto"
    """segments: each example attends to itself alone, example by example, what packed rows need; sdpa and eager: those
    of transformers, for padded rows; auto: segments with packing, else sdpa."""
    add_tokens: tuple[str, ...] = ()
    """Tokens that the tokenizer gets besides its own; their embeddings begin as the mean of all others and train, also
    beside an adapter."""
    trust_remote_code: bool = False
    """Whether code that ships with the model's folder may run."""
