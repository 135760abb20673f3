"""One function for a linear layer and its LoRA, against peft's own forward."""

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from trainer.adapter.lora_product import fuse


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 10), nn.Linear(10, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(torch.tanh(self.first(inputs)))
        return result


def pair(dtype: torch.dtype, **settings: Any) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    body = Body().to(dtype)
    config = LoraConfig(target_modules=["first", "second"], r=3, lora_alpha=5, **settings)
    plain = get_peft_model(body, config, autocast_adapter_dtype=False)
    for name, parameter in plain.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    return plain, copy.deepcopy(plain)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("everything", [False, True])
def test_values_and_gradients_are_those_of_peft(dtype: torch.dtype, everything: bool) -> None:
    plain, fused = pair(dtype)
    assert fuse(fused) == 2
    inputs = torch.randn(2, 5, 6, dtype=dtype)
    results = []
    for model in (plain, fused):
        if everything:
            model.requires_grad_(True)
        own = inputs.clone().requires_grad_()
        made = model(own)
        made.square().sum().backward()
        gradients = {name: one.grad for name, one in model.named_parameters() if one.requires_grad}
        results.append((made.detach(), own.grad, gradients))

    tolerance = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 2e-5, "atol": 2e-5}
    torch.testing.assert_close(results[1], results[0], **tolerance)


def test_under_autocast_the_adapter_keeps_its_own_type() -> None:
    plain, fused = pair(torch.float32)
    fuse(fused)
    inputs = torch.randn(3, 6)

    with torch.autocast("cpu", torch.bfloat16):
        made, wanted = fused(inputs), plain(inputs)
    made.float().sum().backward()

    assert made.dtype == wanted.dtype == torch.bfloat16
    torch.testing.assert_close(made, wanted, rtol=3e-2, atol=3e-2)
    assert all(
        one.grad is not None and one.grad.dtype == torch.float32 for one in fused.parameters() if one.requires_grad
    )


@pytest.mark.parametrize("settings", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_what_is_more_than_plain_is_left_to_peft(settings: dict[str, Any]) -> None:
    _, model = pair(torch.float32, **settings)

    assert fuse(model) == 0


def test_a_disabled_and_a_merged_adapter_run_as_peft_says() -> None:
    plain, fused = pair(torch.float64)
    fuse(fused)
    inputs = torch.randn(2, 6, dtype=torch.float64)

    with plain.disable_adapter(), fused.disable_adapter():  # type: ignore[operator]
        torch.testing.assert_close(fused(inputs), plain(inputs))
    for model in (plain, fused):
        model.merge_adapter()  # type: ignore[operator]
    torch.testing.assert_close(fused(inputs), plain(inputs))
