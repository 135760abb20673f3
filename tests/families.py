"""A very small model of many families of transformers, with random weights."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

VOCABULARY = 50
_PLAIN = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {**_PLAIN, "num_key_value_heads": 2}
_HEADS = {**_GROUPED, "head_dim": 8}
_GPT = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
_OPT = {"word_embed_proj_dim": 32, "ffn_dim": 48, "dropout": 0.0}
_GEMMA = {"query_pre_attn_scalar": 8, "sliding_window": 4}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_MAMBA = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}
_LINEAR = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "shared_expert_intermediate_size": 16,
    "layer_types": ["linear_attention", "full_attention"],
}
_FALCON_H1 = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 4, "mamba_chunk_size": 4}
_LATENT = {"num_key_value_heads": 4, "q_lora_rank": 8, "kv_lora_rank": 8, "first_k_dense_replace": 2} | {
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 12,
    "v_head_dim": 8,
}

PACKED: dict[str, dict[str, Any]] = {
    "llama": _GROUPED,
    "mistral": {**_GROUPED, "sliding_window": 4},
    "qwen2": _GROUPED,
    "qwen3": _HEADS,
    "gemma": _HEADS,
    "gemma2": {**_HEADS, **_GEMMA, "attn_logit_softcapping": 0.5},
    "gemma3_text": {**_HEADS, **_GEMMA},
    "phi": _GROUPED,
    "phi3": _GROUPED,
    "gpt2": _GPT,
    "gptj": {**_GPT, "rotary_dim": 4},
    "gpt_bigcode": _GPT,
    "gpt_neox": _PLAIN,
    "opt": {**_PLAIN, **_OPT},
    "smollm3": _GROUPED,
    "olmo2": _GROUPED,
    "granite": _GROUPED,
    "cohere": _GROUPED,
    "cohere2": {**_GROUPED, "sliding_window": 4},
    "starcoder2": _GROUPED,
    "glm4": _HEADS,
    "exaone4": {**_GROUPED, "sliding_window": 4},
    "deepseek_v3": {**_PLAIN, **_LATENT},
}
"""Families whose attention keeps packed examples apart."""

EXPERTS: dict[str, dict[str, Any]] = {
    "mixtral": {**_GROUPED, "num_local_experts": 4},
    "qwen3_moe": {**_HEADS, **_EXPERTS},
    "gpt_oss": {**_HEADS, "sliding_window": 4, "num_local_experts": 4, "num_experts_per_tok": 2},
}
"""Those of experts, each of which computes at once what is sent to it; gpt_oss has sinks too."""

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "stablelm": (_GROUPED, "does not attend through transformers' attention interface"),
    "mpt": (
        {"vocab_size": VOCABULARY, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64},
        "does not attend through transformers' attention interface",
    ),
    "bloom": (
        {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4},
        "does not attend through transformers' attention interface",
    ),
    "mamba": (_MAMBA, "does not attend through transformers' attention interface"),
    "qwen3_next": (
        {**_HEADS, **_EXPERTS, **_LINEAR},
        "does not attend through transformers' attention interface",
    ),
    "falcon_h1": ({**_GROUPED, **_FALCON_H1}, "does not attend through transformers' attention interface"),
    "lfm2": ({**_GROUPED, "layer_types": ["conv", "full_attention"]}, "has layers of conv"),
    "nemotron": (_GROUPED, "does not hand examples on to its attention"),
    "llama4_text": (
        {**_HEADS, "num_local_experts": 2, "intermediate_size_mlp": 48, "attention_chunk_size": 4},
        "has layers of chunked_attention",
    ),
}
"""Families that mix packed examples, or whose attention would lose what their masks say; and the reason given."""


def model(kind: str, settings: dict[str, Any], attention: str | None) -> PreTrainedModel:
    """In float32; weights are larger than usual, so that differences show."""
    config = AutoConfig.for_model(kind, **settings)
    config.use_cache = False
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.1)
            elif parameter.std() == 0.0:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()
