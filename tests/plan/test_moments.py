"""Bytes that an optimizer keeps, against what it really keeps."""

from typing import Any

import pytest
import torch
from torch import nn

from trainer.config.optimizer import Optimizer
from trainer.optim import optimizers
from trainer.optim.elementwise import ELEMENTWISE
from trainer.optim.matrixwise import MATRIXWISE
from trainer.optim.stepper import EIGHT_BIT, moments
from trainer.parameter import parameter
from trainer.plan.moments import form, nbytes

KINDS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "adam": {"kind": "adam"},
    "adamw_8bit": {"kind": "adamw_8bit"},
    "paged": {"paged": True},
    "paged, 8 bits": {"kind": "adamw_8bit", "paged": True},
    "adafactor": {"kind": "adafactor"},
    "lion": {"kind": "lion"},
    "sgd": {"kind": "sgd"},
    "sgd without momentum": {"kind": "sgd", "momentum": 0.0},
    "muon": {"kind": "muon"},
    "galore": {"kind": "galore", "galore": {"rank": 16}},
}


class Model(nn.Module):
    """Embeddings, matrices of three sizes inside a layer, and a norm."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        sizes = ((64, 128), (128, 64), (8, 12))
        self.layers = nn.ModuleList([nn.ModuleList([nn.Linear(*size) for size in sizes])])
        self.embed_tokens, self.norm = nn.Embedding(100, 64), nn.LayerNorm(64)
        self.to(dtype)


@pytest.mark.parametrize("master", ["float32", "kahan", "stochastic", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", KINDS)
def test_what_is_planned_is_what_is_kept(name: str, dtype: torch.dtype, master: str) -> None:
    if dtype == torch.float32 and master in ("kahan", "stochastic"):
        pytest.skip("refused: they are for bfloat16")
    settings, module = Optimizer.model_validate({**KINDS[name], "master": master}), Model(dtype)
    optimizer = optimizers.build(settings, module)
    for weight in module.parameters():
        weight.grad = torch.ones_like(weight)

    optimizer.step()

    kept = sum(one.nbytes for state in optimizer.state.values() for one in moments(state).values())
    listed = [parameter(called, tuple(weight.shape)) for called, weight in module.named_parameters()]
    copy = 4 if master == "float32" else dtype.itemsize
    assert kept == nbytes(settings, sum(one.size for one in listed), listed, copy)


@pytest.mark.parametrize("name", KINDS)
def test_every_weight_has_a_rule(name: str) -> None:
    settings = Optimizer.model_validate(KINDS[name])
    names = {
        "model.layers.0.mlp.up_proj.weight": (64, 128),
        "model.embed_tokens.weight": (100, 64),
        "norm.weight": (8,),
    }

    rules = {form(settings, parameter(called, shape), embeds=False) for called, shape in names.items()}

    assert rules <= {*ELEMENTWISE, *MATRIXWISE, EIGHT_BIT}
