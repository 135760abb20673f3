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
    quantization: Literal["none", "nf4", "fp4", "int8"] = "none"
    """How the linear layers of a frozen base are stored below an adapter, by bitsandbytes: in 4 bits (Dettmers et al.
    2023) or in 8 (Dettmers et al. 2022); what they compute is in `dtype`. Head, norms and embeddings stay in `dtype`.
    """
    double_quantization: bool = False
    """Whether the scales of 4 bits are stored in 8 bits too: 0.13 bytes less for each 8 values."""
    quantization_skip: tuple[str, ...] = ()
    """Endings of names of linear layers that stay in `dtype`, besides the head."""
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
