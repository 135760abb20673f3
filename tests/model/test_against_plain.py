"""Every optimisation against the plain path: padded rows, all logits at once, eager attention, float32.

To hold one more to it, add a `Way` to WAYS.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from trainer.adapter import lora_product
from trainer.data.batches import IGNORED, Batch, Layout, batch_of
from trainer.data.encoded import Encoded
from trainer.kernels import library
from trainer.model import cross_entropy, products
from trainer.model.attention import SEGMENTS, own_attention
from trainer.model.cross_entropy import Loss, linear_cross_entropy
from trainer.model.fusing import fuse
from trainer.tasks.causal_lm import CausalLM

LONGEST = 20
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 5},
    "qwen3": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 5}
    | {"attn_logit_softcapping": 1.0, "final_logit_softcapping": 2.0},
    "phi": {},
}
"""A plain one; a window; normed queries; soft caps on scores and logits; a head with a bias."""


@dataclass(frozen=True)
class Work:
    """A model and the examples of one micro-batch."""

    family: str = "llama"
    tied: bool = True
    adapted_head: bool = False
    heads: int = 4
    shared: int = 2
    """Query heads to a key-value head."""
    vocabulary: int = 61
    lengths: tuple[int, ...] = (7, 1, LONGEST)
    learned: tuple[str, ...] = ("answer", "none", "all")
    seed: int = 0

    def model(self) -> PreTrainedModel:
        """In float32 with random weights, larger than usual."""
        settings = {
            "vocab_size": self.vocabulary,
            "hidden_size": 32,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads // self.shared,
            "max_position_embeddings": 64,
            "tie_word_embeddings": self.tied and not self.adapted_head,
            "pad_token_id": 0,
            "bos_token_id": None,
            "eos_token_id": None,
        }
        config = AutoConfig.for_model(self.family, **settings | FAMILIES[self.family])
        torch.manual_seed(self.seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=SEGMENTS, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        if self.adapted_head:
            get_peft_model(model, LoraConfig(r=3, target_modules=["lm_head"], init_lora_weights=False))
        return model.eval()

    def batch(self, packing: bool) -> Batch:
        """The examples end to end or padded, as a run has them."""
        generator = np.random.default_rng(self.seed)
        rows = []
        for length, way in zip(self.lengths, self.learned, strict=False):
            learned = {
                "none": np.zeros(length, bool),
                "all": np.ones(length, bool),
                "answer": np.arange(length) >= length // 2,
                "scattered": generator.random(length) < 0.4,
            }[way]
            rows.append(Encoded(generator.integers(0, self.vocabulary, length).astype(np.int32), learned))
        return batch_of(rows, Layout(len(rows), len(rows), packing, len(rows) * LONGEST, 0))


Apply = Callable[[CausalLM], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Way:
    """One optimisation, or several together."""

    packing: bool = True
    whole: bool = True
    """Whether weights are whole between passes; else logits are made again in the backward pass."""
    apply: Apply = lambda module: nullcontext()
    """What is done to the module, until the context ends; CausalLM(model) in place."""


@contextmanager
def _small_chunks(module: CausalLM | None = None) -> Iterator[None]:
    """Sixteen positions at a time, two to four of them at once, whatever the vocabulary."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_entropy, "CHUNK_BYTES", 1)
        patch.setattr(cross_entropy, "BLOCK_BYTES", 1000)
        yield


@contextmanager
def _checkpointed(module: CausalLM) -> Iterator[None]:
    module.model.gradient_checkpointing_enable({"use_reentrant": False})
    module.train()
    with _small_chunks():
        yield


@contextmanager
def _fused(module: CausalLM) -> Iterator[None]:
    """Norms, gates, rotations and LoRA in one function each; products by oneDNN on any processor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_slow_at_mkl", lambda: True)
        fuse(module.model)
        lora_product.fuse(module.model)
        yield


WAYS = {
    "packed rows": Way(),
    "packed rows by torch's own operations": Way(apply=lambda module: library.turned_off()),
    "fused layers": Way(apply=_fused),
    "the head in chunks": Way(packing=False, apply=_small_chunks),
    "both": Way(apply=_small_chunks),
    "logits made again": Way(whole=False, apply=_small_chunks),
    "activation checkpointing": Way(apply=_checkpointed),
}


def _plain(work: Work, model: PreTrainedModel) -> torch.Tensor:
    batch = work.batch(packing=False)
    with own_attention(model):
        model.set_attn_implementation("eager")
        logits = model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, position_ids=batch.position_ids
        ).logits
    return functional.cross_entropy(
        logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )


def _gradients(loss: torch.Tensor, model: nn.Module) -> dict[str, torch.Tensor]:
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    return {
        name: torch.zeros_like(trained[name]) if one is None else one for name, one in zip(trained, found, strict=True)
    }


LEARNED = ("none", "all", "answer", "scattered")
WORK = st.builds(
    Work,
    family=st.sampled_from(sorted(FAMILIES)),
    tied=st.booleans(),
    adapted_head=st.booleans(),
    heads=st.sampled_from([2, 4, 8]),
    shared=st.sampled_from([1, 2]),
    vocabulary=st.integers(23, 90),
    lengths=st.lists(st.sampled_from([1, 2, LONGEST]) | st.integers(1, LONGEST), min_size=1, max_size=6).map(tuple),
    learned=st.tuples(*(st.sampled_from(LEARNED),) * 6),
    seed=st.integers(0, 1000),
)


@pytest.mark.parametrize("way", WAYS)
@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(work=WORK)
@example(work=Work())
@example(work=Work(lengths=(1,), learned=("all",)))
@example(work=Work(lengths=(5, LONGEST), learned=("none", "none")))
@example(work=Work(family="gemma2", vocabulary=89))
@example(work=Work(family="phi", adapted_head=True))
def test_loss_and_gradients_are_those_of_the_plain_path(way: str, work: Work) -> None:
    chosen, model = WAYS[way], work.model()
    expected = _plain(work, model)
    wanted = _gradients(expected, model)
    if not chosen.packing:
        model.set_attn_implementation("eager")
    module = CausalLM(model, whole=chosen.whole)

    with chosen.apply(module):
        loss = module(work.batch(chosen.packing))["loss"]
        made = _gradients(loss, model)

    assert abs(loss - expected) <= 1e-6 * abs(expected)
    size = float(torch.stack([one.norm() for one in wanted.values()]).norm())
    for name, theirs in wanted.items():
        # A gradient that is nothing beside the others, such as a query's in examples of one token, is rounding.
        assert (made[name] - theirs).norm() <= 1e-5 * max(float(theirs.norm()), 1e-2 * size), name


@settings(deadline=None, max_examples=60)
@given(
    positions=st.integers(1, 50),
    vocabulary=st.integers(2, 90),
    bias=st.booleans(),
    by=st.sampled_from(["hand", "autograd", "again"]),
    smoothing=st.sampled_from([0.0, 0.1]),
    z=st.sampled_from([0.0, 1e-3]),
    weighted=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_a_head_in_chunks_has_the_loss_of_all_logits_at_once(
    positions: int, vocabulary: int, bias: bool, by: str, smoothing: float, z: float, weighted: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    head, states = nn.Linear(16, vocabulary, bias=bias), torch.randn(positions, 16, requires_grad=True)
    targets = torch.randint(vocabulary, (positions,))
    loss = Loss(smoothing, z, torch.rand(vocabulary) + 0.1 if weighted else None)
    leaves = [states, *head.parameters()]
    expected = loss.of(head(states), targets)
    wanted = torch.autograd.grad(expected, leaves)
    size = float(torch.stack([one.norm() for one in wanted]).norm())
    after = (lambda logits: logits) if by == "autograd" else None

    with _small_chunks():
        made = linear_cross_entropy(head, states, targets, vocabulary, loss=loss, after=after, whole=by != "again")
        found = torch.autograd.grad(made, leaves)

    assert abs(made - expected) <= 1e-6 * expected
    for ours, theirs in zip(found, wanted, strict=True):
        # Of two labels a bias has nearly opposite gradients, which are nothing beside the others.
        assert (ours - theirs).norm() <= 1e-5 * max(float(theirs.norm()), 1e-2 * size)
