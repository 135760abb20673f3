"""What looks at whole matrices, against the optimizers of torch and of the paper's authors, for ten steps."""

from typing import Any

import pytest
import torch
from galore_torch import GaLoreAdamW
from torch import nn

from trainer.config.optimizer import Optimizer
from trainer.optim import masters, optimizers

SHAPES = {"layers.0.up.weight": (48, 24), "layers.0.down.weight": (20, 40), "layers.0.norm.weight": (24,)}


class Weights(nn.Module):
    """Two matrices and a vector inside a layer, and embeddings outside."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed_tokens = nn.Embedding(30, 24)
        up, down, norm = nn.Linear(24, 48, bias=False), nn.Linear(40, 20, bias=False), nn.LayerNorm(24, bias=False)
        self.layers = nn.ModuleList([nn.ModuleDict({"up": up, "down": down, "norm": norm})])
        for weight in self.parameters():
            weight.data = (0.1 * torch.randn(weight.shape)).bfloat16().to(dtype)


def give(module: nn.Module, step: int) -> None:
    """Gradients that every type holds exactly."""
    generator = torch.Generator().manual_seed(step)
    for weight in module.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator).bfloat16().to(weight.dtype)


def stepped(kind: str, module: nn.Module, steps: int = 10, **more: Any) -> Any:
    optimizer = optimizers.build(Optimizer.model_validate({"kind": kind, "lr": 1e-2, **more}), module, 3)
    for step in range(steps):
        give(module, step)
        optimizer.step()
    return optimizer


def adafactor(module: nn.Module) -> list[torch.optim.Optimizer]:
    decayed, bare = _by_shape(module)
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": bare, "weight_decay": 0.0}]
    return [torch.optim.Adafactor(groups, lr=1e-2, foreach=False)]


def muon(module: nn.Module) -> list[torch.optim.Optimizer]:
    matrices = [weight for name, weight in module.named_parameters() if name.startswith("layers") and weight.dim() == 2]
    ours = torch.optim.Muon(matrices, lr=1e-2, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    return [ours, _adamw(module, {*matrices})]


def galore(module: nn.Module) -> list[torch.optim.Optimizer]:
    matrices = [weight for name, weight in module.named_parameters() if name.startswith("layers") and weight.dim() == 2]
    projected = {"params": matrices, "rank": 8, "update_proj_gap": 4, "scale": 0.5, "proj_type": "std"}
    # Its weight decay comes after the step, ours before it as AdamW's: compared without.
    theirs = GaLoreAdamW([projected], lr=1e-2, weight_decay=0.0, eps=1e-12, no_deprecation_warning=True)
    return [theirs, _adamw(module, {*matrices}, weight_decay=0.0, eps=1e-12)]


def _by_shape(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    weights = list(module.parameters())
    return [one for one in weights if one.dim() == 2], [one for one in weights if one.dim() < 2]


def _adamw(module: nn.Module, without: set[nn.Parameter], weight_decay: float = 0.1, **more: Any) -> torch.optim.AdamW:
    decayed, bare = ([one for one in part if one not in without] for part in _by_shape(module))
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": bare, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-2, **more)


WAYS: dict[str, tuple[Any, dict[str, Any]]] = {
    "adafactor": (adafactor, {"weight_decay": 0.1}),
    "muon": (muon, {"weight_decay": 0.1}),
    "galore": (galore, {"eps": 1e-12, "galore": {"rank": 8, "every": 4, "scale": 0.5}}),
}


@pytest.mark.parametrize("kind", WAYS)
@pytest.mark.filterwarnings("ignore:This implementation of AdamW is deprecated")
def test_ten_steps_are_those_of_its_reference(kind: str) -> None:
    make, settings = WAYS[kind]
    module, reference = Weights(), Weights()
    begun = Weights()

    stepped(kind, module, **settings)
    theirs = make(reference)
    for step in range(10):
        give(reference, step)
        for one in theirs:
            one.step()

    for weight, wanted, before in zip(module.parameters(), reference.parameters(), begun.parameters(), strict=True):
        assert not torch.equal(weight, before)
        torch.testing.assert_close(weight, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("master", "error"), [("float32", 1e-6), ("kahan", 5e-3), ("stochastic", 0.3)])
@pytest.mark.parametrize("kind", WAYS)
def test_masters_keep_what_bfloat16_lacks(kind: str, master: str, error: float) -> None:
    settings = WAYS[kind][1]
    exact, begun, module = Weights(), Weights(), Weights(torch.bfloat16)
    stepped(kind, exact, **settings)

    optimizer = stepped(kind, module, **settings, master=master)

    values = [masters.value(weight.detach(), optimizer.state[weight]) for weight in module.parameters()]
    kept, wanted, before = (
        torch.cat([one.detach().flatten() for one in some]) for some in (values, exact.parameters(), begun.parameters())
    )
    assert float((kept - wanted).norm() / (wanted - before).norm()) < error


@pytest.mark.parametrize("kind", WAYS)
def test_a_saved_one_goes_on_bit_by_bit(kind: str) -> None:
    settings = WAYS[kind][1]
    whole, first, second = Weights(), Weights(), Weights()
    stepped(kind, whole, steps=6, **settings)
    saved = stepped(kind, first, steps=3, **settings).state_dict()
    second.load_state_dict(first.state_dict())
    resumed = stepped(kind, second, steps=0, **settings)
    resumed.load_state_dict(saved)

    for step in range(3, 6):
        give(second, step)
        resumed.step()

    assert all(torch.equal(one, two) for one, two in zip(whole.parameters(), second.parameters(), strict=True))
