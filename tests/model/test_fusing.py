"""A fused model computes what the model itself computes, and only what is known is replaced."""

import copy
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from trainer.kernels import library
from trainer.model.attention import SEGMENTS, Segments
from trainer.model.fusing import fuse

SMALL = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
}


def model_of(kind: str, attention: str = "eager") -> Any:
    torch.manual_seed(5)
    config = AutoConfig.for_model(kind, **SMALL, initializer_range=0.2)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention)


def replaced(model: nn.Module, name: str) -> int:
    """Modules whose forward is one of ours, by the function's name."""
    ours = [module.__dict__.get("forward") for module in model.modules()]
    return sum(isinstance(one, partial) and one.func.__name__ == name for one in ours)


@pytest.mark.parametrize(
    ("kind", "norms", "gates"),
    [("llama", 5, 2), ("mistral", 5, 2), ("qwen2", 5, 2), ("qwen3", 9, 2), ("gemma", 5, 2), ("gemma2", 9, 2)],
)
def test_a_fused_model_gives_the_same_loss_and_gradients(kind: str, norms: int, gates: int) -> None:
    plain = model_of(kind)
    fused = copy.deepcopy(plain)
    fuse(fused)
    tokens = torch.randint(1, 61, (1, 23))

    for model in (plain, fused):
        with library.turned_off() if model is plain else nullcontext():
            model(input_ids=tokens, labels=tokens).loss.backward()

    assert (replaced(fused, "_norm"), replaced(fused, "_feed_forward")) == (norms, gates)
    own = dict(fused.named_parameters())
    for name, theirs in plain.named_parameters():
        gap = (own[name].grad - theirs.grad).norm()
        assert gap <= 1e-5 * theirs.grad.norm() + 1e-7, name


def test_packed_examples_stay_apart_to_the_bit() -> None:
    model = model_of("llama", SEGMENTS)
    fuse(model)
    tokens = torch.randint(1, 61, (1, 30))
    places = torch.cat((torch.arange(12), torch.arange(18)))[None]
    inputs = {"position_ids": places, "segments": Segments((12, 18)), "use_cache": False}
    before = model(input_ids=tokens, **inputs).logits
    changed = tokens.clone()
    changed[0, :12] = (changed[0, :12] + 7) % 60 + 1

    after = model(input_ids=changed, **inputs).logits

    assert torch.equal(before[:, 12:], after[:, 12:])
    assert not torch.equal(before[:, :12], after[:, :12])


def test_what_only_looks_alike_is_left_alone() -> None:
    class ShiftedRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))
            self.eps = 1e-6

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return self.weight * hidden + 0.5

    model = nn.Sequential(ShiftedRMSNorm())

    fuse(model)

    assert replaced(model, "_norm") == 0


def test_a_model_in_float64_runs_its_own_code() -> None:
    plain = model_of("llama").double()
    fused = copy.deepcopy(plain)
    fuse(fused)
    tokens = torch.randint(1, 61, (1, 9))

    assert torch.equal(fused(input_ids=tokens).logits, plain(input_ids=tokens).logits)
