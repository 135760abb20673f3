from typing import Any

import families
import pytest
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
)

from trainer.model import cross_entropy
from trainer.model.cross_entropy import Loss
from trainer.model.head import Head, head_of

VOCABULARY, POSITIONS = 61, 9
_ENCODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "pad_token_id": 0,
}
_T5 = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4}
_BART = {"vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "pad_token_id": 0} | {
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "decoder_start_token_id": 2,
}
MASKED: dict[str, dict[str, Any]] = {
    "bert": _ENCODER,
    "roberta": _ENCODER,
    "xlm-roberta": _ENCODER,
    "camembert": _ENCODER,
    "distilbert": {"vocab_size": VOCABULARY, "dim": 32, "hidden_dim": 48, "n_layers": 1, "n_heads": 4},
    "albert": {**_ENCODER, "embedding_size": 16},
    "electra": {**_ENCODER, "embedding_size": 16},
    "modernbert": {**_ENCODER, "global_attn_every_n_layers": 1, "cls_token_id": 1, "sep_token_id": 2},
    "mpnet": _ENCODER,
    "deberta-v2": _ENCODER,
}
SEQ2SEQ: dict[str, dict[str, Any]] = {
    "t5": _T5,
    "t5 untied": {**_T5, "tie_word_embeddings": False},
    "mt5": _T5,
    "umt5": _T5,
    "longt5": _T5,
    "bart": _BART,
    "mbart": _BART,
    "marian": _BART,
    "pegasus": _BART,
    "m2m_100": _BART,
}
CAUSAL = ["llama", "gemma2", "gemma3_text", "cohere", "granite", "gpt2", "gptj", "phi"]


def _model(kind: str) -> PreTrainedModel:
    if kind in CAUSAL:
        made = families.model(kind, families.PACKED[kind], "eager")
        made.config.final_logit_softcapping = getattr(made.config, "final_logit_softcapping", None) and 0.3
        return made
    of = AutoModelForMaskedLM if kind in MASKED else AutoModelForSeq2SeqLM
    config = AutoConfig.for_model(kind.split()[0], **(MASKED | SEQ2SEQ)[kind])
    torch.manual_seed(0)
    model = of.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        if getattr(model, "final_logits_bias", None) is not None:
            model.final_logits_bias.normal_()
    return model


def _states_and_logits(model: PreTrainedModel, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What the body gives, before anything else is done to it, and the model's own logits."""
    tokens = torch.randint(3, 50, (1, POSITIONS))
    if kind in SEQ2SEQ:
        inputs = {"input_ids": tokens, "decoder_input_ids": tokens.flip(1), "use_cache": False}
        decoder = model.get_decoder()
    else:
        inputs, decoder = {"input_ids": tokens}, model.base_model
    seen = []
    handle = decoder.register_forward_hook(lambda module, args, output: seen.append(output[0]))
    with torch.no_grad():
        logits = model(**inputs).logits[0]
    handle.remove()
    return seen[-1][0], logits


KINDS = [*CAUSAL, *MASKED, *SEQ2SEQ]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_model(kind: str) -> None:
    model = _model(kind)
    states, theirs = _states_and_logits(model, kind)

    with torch.no_grad():
        ours = head_of(model).logits(states)

    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6 * float(theirs.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_in_chunks_has_the_gradients_of_all_logits_at_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "_rows", lambda vocabulary, width, size: 4)
    model = _model(kind)
    states, _ = _states_and_logits(model, kind)
    states, targets = states.clone().requires_grad_(), torch.randint(3, 50, (POSITIONS,))
    head, loss = head_of(model), Loss(smoothing=0.1, z=0.01)
    leaves = [states, *head.module.parameters()]
    expected = loss.of(head.logits(states), targets)
    wanted = torch.autograd.grad(expected, leaves)

    made = head.loss(states, targets, loss)

    assert abs(made - expected) <= 1e-6 * expected
    for ours, theirs in zip(torch.autograd.grad(made, leaves), wanted, strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


@pytest.mark.parametrize("kind", ["bert", "t5", "bart", "gemma2"])
def test_logits_are_never_made_for_more_than_a_chunk(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "_rows", lambda vocabulary, width, size: 4)
    model = _model(kind)
    states, _ = _states_and_logits(model, kind)
    seen = []
    model.get_output_embeddings().register_forward_hook(lambda module, args, logits: seen.append(len(logits)))

    head_of(model).loss(states.clone().requires_grad_(), torch.zeros(POSITIONS, dtype=torch.long)).backward()

    assert seen == [4, 4, 1]


def test_a_plain_head_is_its_linear_layer_alone() -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **families.PACKED["llama"]))

    head = head_of(model)

    assert head == Head(model.lm_head, families.VOCABULARY)
    assert type(head.module) is nn.Linear
