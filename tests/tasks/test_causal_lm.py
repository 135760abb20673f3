from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertLMHeadModel, GPT2Config, GPT2LMHeadModel

from trainer.data.batches import batch_of
from trainer.data.encoded import Encoded
from trainer.data.packing import Layout
from trainer.model.attention import SEGMENTS
from trainer.tasks.causal_lm import CausalLM

SIZES = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
BERT: dict[str, Any] = {**SIZES, "intermediate_size": 32, "is_decoder": True, "initializer_range": 0.5}


def pairs() -> list[Encoded]:
    """Three rows of two texts each, and one of a single text."""
    rows = []
    for length, second in ((9, 4), (5, 2), (12, 7), (6, None)):
        tokens = np.arange(3, 3 + length, dtype=np.int32)
        types = None if second is None else (np.arange(length) >= second).astype(np.int8)
        rows.append(Encoded(tokens, np.ones(length, dtype=np.bool_), types))
    return rows


def layout(packing: bool) -> Layout:
    return Layout(global_=4, micro=4, packing=packing, micro_tokens=64, pad=0)


def loss_of_each(model: Any, rows: list[Encoded], *, typed: bool) -> float:
    """What transformers' own forward says of one row after the other."""
    total = 0.0
    for row in rows:
        tokens = torch.from_numpy(row.tokens).long()[None]
        kinds = torch.zeros_like(tokens) if row.types is None else torch.from_numpy(row.types).long()[None]
        given = {"token_type_ids": kinds} if typed else {}
        logits = model(input_ids=tokens, use_cache=False, **given).logits[0, :-1]
        total += torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum").item()
    return total


@pytest.mark.parametrize("packing", [True, False])
def test_a_model_like_bert_sees_which_text_a_token_belongs_to(packing: bool) -> None:
    torch.manual_seed(0)
    config = BertConfig(**BERT, attn_implementation=SEGMENTS if packing else "sdpa")
    task = CausalLM(BertLMHeadModel(config)).eval()
    torch.nn.init.normal_(task.model.bert.embeddings.token_type_embeddings.weight)
    batch = batch_of(pairs(), layout(packing))

    (body_gap, _), allowed = task.compare_with_own_logits(batch)
    # BERT's head is more than one product, so a run takes the model's own forward, too.
    task.own_forward = True
    loss = task(batch)["loss"].item()

    task.model.set_attn_implementation("sdpa")
    expected = loss_of_each(task.model, pairs(), typed=True)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert body_gap < allowed
    assert expected != pytest.approx(loss_of_each(task.model, pairs(), typed=False), rel=1e-3)


@pytest.mark.parametrize("packing", [True, False])
def test_a_model_without_such_an_input_gets_none(packing: bool) -> None:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=64, n_embd=16, n_layer=2, n_head=2, attn_implementation=SEGMENTS if packing else "sdpa"
    )
    task = CausalLM(GPT2LMHeadModel(config)).eval()

    loss = task(batch_of(pairs(), layout(packing)))["loss"].item()

    task.model.set_attn_implementation("sdpa")
    assert loss == pytest.approx(loss_of_each(task.model, pairs(), typed=False), rel=1e-5)
