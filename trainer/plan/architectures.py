"""The model types that can be made anew: their settings, and the parameters of those that are known in closed form.

The settings and their defaults are a generated table, model_defaults.json; this writes it again from the installed
transformers, and the test of the same name compares the two:

    python tests/plan/test_architectures.py
"""

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.errors import Problem, did_you_mean

Shapes = Iterator[tuple[str, tuple[int, ...]]]

# What a new model takes from its tokenizer.
FROM_TOKENIZER = (
    "vocab_size",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "forced_eos_token_id",
)
# Older spellings that transformers folds into `rope_parameters`.
_ROPE = ("rope_theta", "rope_scaling")
_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "n_embd",
    "n_layer",
    "n_head",
    "n_inner",
    "n_positions",
    "d_model",
    "d_kv",
    "d_ff",
    "num_layers",
    "num_heads",
    "encoder_layers",
    "decoder_layers",
    "encoder_attention_heads",
    "decoder_attention_heads",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
)


_DIVIDED = (
    ("n_embd", "n_head"),
    ("hidden_size", "num_attention_heads"),
    ("d_model", "encoder_attention_heads"),
    ("d_model", "decoder_attention_heads"),
)
"""Widths, and the heads that share them."""


@functools.cache
def _table() -> dict[str, dict[str, dict[str, Any]]]:
    return dict(json.loads(Path(__file__).with_name("model_defaults.json").read_text(encoding="utf-8")))


def known() -> tuple[str, ...]:
    """The model types that can be made anew."""
    return tuple(_table())


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a known model type: those of `config`, under transformers' own names, over the defaults."""
    entry = _table()[config["model_type"]]
    given = {entry["aliases"].get(key, key): value for key, value in config.items()}
    return {**entry["settings"], **given}


def shapes(config: Mapping[str, Any]) -> Shapes | None:
    """Name and shape of each parameter of the causal language model, tied ones once; None where no formula is known."""
    if config.get("model_type") not in _FORMULAS:
        return None
    settings = settings_of(config)
    if config["model_type"] == "gpt2" and settings["add_cross_attention"]:
        return None
    return _FORMULAS[config["model_type"]](settings)


def _llama(settings: dict[str, Any]) -> Shapes:
    """The family of Llama: mistral, qwen2 and qwen3 differ in biases and in norms of queries and keys."""
    kind = settings["model_type"]
    hidden, inner, heads = settings["hidden_size"], settings["intermediate_size"], settings["num_attention_heads"]
    head = settings.get("head_dim") or hidden // heads
    queries, keys = heads * head, (settings["num_key_value_heads"] or heads) * head
    query_bias = kind == "qwen2" or settings.get("attention_bias", False)
    yield "model.embed_tokens.weight", (settings["vocab_size"], hidden)
    for layer in range(settings["num_hidden_layers"]):
        stem = f"model.layers.{layer}"
        attention = f"{stem}.self_attn"
        yield from _linear(f"{attention}.q_proj", queries, hidden, query_bias)
        yield from _linear(f"{attention}.k_proj", keys, hidden, query_bias)
        yield from _linear(f"{attention}.v_proj", keys, hidden, query_bias)
        yield from _linear(f"{attention}.o_proj", hidden, queries, settings.get("attention_bias", False))
        if kind == "qwen3":
            yield f"{attention}.q_norm.weight", (head,)
            yield f"{attention}.k_norm.weight", (head,)
        for name, rows, columns in (("gate", inner, hidden), ("up", inner, hidden), ("down", hidden, inner)):
            yield from _linear(f"{stem}.mlp.{name}_proj", rows, columns, settings.get("mlp_bias", False))
        yield f"{stem}.input_layernorm.weight", (hidden,)
        yield f"{stem}.post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    if not settings["tie_word_embeddings"]:
        yield "lm_head.weight", (settings["vocab_size"], hidden)


def _gpt2(settings: dict[str, Any]) -> Shapes:
    """GPT-2, whose matrices lie as [in, out]."""
    hidden = settings["n_embd"]
    inner = settings["n_inner"] or 4 * hidden
    yield "transformer.wte.weight", (settings["vocab_size"], hidden)
    yield "transformer.wpe.weight", (settings["n_positions"], hidden)
    for layer in range(settings["n_layer"]):
        stem = f"transformer.h.{layer}"
        yield from _norm(f"{stem}.ln_1", hidden)
        yield from _conv1d(f"{stem}.attn.c_attn", hidden, 3 * hidden)
        yield from _conv1d(f"{stem}.attn.c_proj", hidden, hidden)
        yield from _norm(f"{stem}.ln_2", hidden)
        yield from _conv1d(f"{stem}.mlp.c_fc", hidden, inner)
        yield from _conv1d(f"{stem}.mlp.c_proj", inner, hidden)
    yield from _norm("transformer.ln_f", hidden)
    if not settings["tie_word_embeddings"]:
        yield "lm_head.weight", (settings["vocab_size"], hidden)


_FORMULAS = {"llama": _llama, "mistral": _llama, "qwen2": _llama, "qwen3": _llama, "gpt2": _gpt2}


def _linear(name: str, rows: int, columns: int, bias: bool) -> Shapes:
    yield f"{name}.weight", (rows, columns)
    if bias:
        yield f"{name}.bias", (rows,)


def _conv1d(name: str, rows: int, columns: int) -> Shapes:
    yield f"{name}.weight", (rows, columns)
    yield f"{name}.bias", (columns,)


def _norm(name: str, size: int) -> Shapes:
    yield f"{name}.weight", (size,)
    yield f"{name}.bias", (size,)


def problems(config: Mapping[str, Any]) -> list[Problem]:
    """Everything wrong with `model.config`, the settings of a new model."""
    kind = config.get("model_type")
    if kind is None:
        return [Problem("model.config.model_type", f"missing; a new model can be one of {', '.join(known())}")]
    if kind not in known():
        message = f"{kind}: no new model of this type can be made{did_you_mean(str(kind), known())}"
        return [Problem("model.config.model_type", message)]
    entry = _table()[kind]
    keys = {*entry["settings"], *entry["aliases"], *(_ROPE if "rope_parameters" in entry["settings"] else ())}
    found = []
    for key, value in config.items():
        if key == "model_type":
            continue
        wrong = _wrong_setting(kind, key, value, keys, entry)
        if wrong:
            found.append(Problem(f"model.config.{key}", wrong))
    return found or _heads(settings_of(config))


def _wrong_setting(kind: str, key: str, value: Any, keys: set[str], entry: dict[str, dict[str, Any]]) -> str | None:
    if key in FROM_TOKENIZER:
        return f"{value}: comes from the tokenizer; leave it out"
    if key not in keys:
        return f"no such setting of {kind}{did_you_mean(key, keys - set(FROM_TOKENIZER))}"
    name = entry["aliases"].get(key, key)
    default = entry["settings"].get(name)
    if value is None and default is None:
        return None
    if name in _SIZES:
        whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
        return None if whole else f"{value!r}: must be a whole number above 0"
    if isinstance(default, bool):
        return None if isinstance(value, bool) else f"{value!r}: must be true or false"
    if isinstance(default, int | float):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return None if number or value is None else f"{value!r}: must be a number"
    if isinstance(default, str):
        return None if isinstance(value, str) else f"{value!r}: must be a name, such as {default}"
    return None


def _heads(settings: dict[str, Any]) -> list[Problem]:
    """Sizes that do not divide one another, so that no such model can be built."""
    found = []
    for hidden_key, heads_key in _DIVIDED:
        # T5 names the width of a head itself.
        if hidden_key not in settings or heads_key not in settings or "d_kv" in settings:
            continue
        hidden, heads = settings[hidden_key], settings[heads_key]
        if hidden % heads:
            message = f"{hidden} is no multiple of {heads_key} {heads}; change one of the two"
            found.append(Problem(f"model.config.{hidden_key}", message))
    if "rope_parameters" not in settings:
        return found
    hidden, heads = settings["hidden_size"], settings["num_attention_heads"]
    shared = settings.get("num_key_value_heads")
    if shared and heads % shared:
        message = f"{shared} does not divide num_attention_heads {heads}; set a number that does"
        found.append(Problem("model.config.num_key_value_heads", message))
    head = settings.get("head_dim") or hidden // heads
    if head % 2:
        message = f"{head} values a head; rotary positions need an even number"
        found.append(Problem("model.config.head_dim", message))
    return found
