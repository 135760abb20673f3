import importlib.util
from typing import Any

import families
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from trainer.errors import RecipeError
from trainer.model import flash_attention
from trainer.model.attention import SEGMENTS
from trainer.model.attention_choice import KERNELS, choose
from trainer.model.flash_attention import VARLEN
from trainer.model.flex_attention import FLEX


def _model(kind: str, **changed: Any) -> PreTrainedModel:
    wide = {"qk_nope_head_dim": 16} if kind == "deepseek_v3" else {"head_dim": 16}
    settings = (families.PACKED | families.EXPERTS)[kind] | wide | changed
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings), attn_implementation=SEGMENTS)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Packages that are found besides those that are there; empty at first."""
    names: set[str] = set()
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: object() if name in names else None if name in ("flash_attn", "triton") else found(name),
    )
    flash_attention.package.cache_clear()
    yield names
    flash_attention.package.cache_clear()


HALF, FULL = torch.bfloat16, torch.float32


@pytest.mark.parametrize(
    ("kind", "packages", "dtype", "chosen"),
    [
        ("llama", {"triton"}, HALF, VARLEN),
        ("llama", {"triton"}, FULL, FLEX),
        ("llama", set(), FULL, SEGMENTS),
        ("mistral", {"triton"}, HALF, VARLEN),
        ("gemma2", {"triton"}, HALF, FLEX),
        ("gemma2", {"triton", "flash_attn"}, HALF, VARLEN),
        ("gpt_oss", {"triton", "flash_attn"}, HALF, FLEX),
        ("deepseek_v3", {"triton", "flash_attn"}, HALF, FLEX),
    ],
)
def test_auto_takes_the_fastest_that_has_what_the_model_asks(
    installed: set[str], kind: str, packages: set[str], dtype: torch.dtype, chosen: str
) -> None:
    installed |= packages

    assert choose(_model(kind), "auto", dtype, cuda=True) == chosen
    assert choose(_model(kind), "auto", dtype, cuda=False) == SEGMENTS


def test_dropout_takes_the_kernel_that_has_it(installed: set[str]) -> None:
    installed.add("triton")
    model = _model("llama", attention_dropout=0.1)

    assert choose(model, "auto", HALF, cuda=True) == SEGMENTS
    flash_attention.package.cache_clear()
    installed.add("flash_attn")
    assert choose(model, "auto", HALF, cuda=True) == VARLEN


@pytest.mark.parametrize(
    ("kind", "wanted", "dtype", "cuda", "message"),
    [
        ("llama", "flash", HALF, False, "flash needs a CUDA device; set it to segments or auto"),
        ("llama", "flex", HALF, False, "flex has a backward pass on CUDA alone; set it to segments or auto"),
        (
            "llama",
            "flash",
            FULL,
            True,
            "flash computes in bfloat16 or float16, not in float32; set it to flex, segments",
        ),
        ("gemma2", "flash", HALF, True, "flash bends no scores"),
        ("gpt_oss", "flash", HALF, True, "flash has no sinks"),
        ("deepseek_v3", "flash", HALF, True, "flash has keys and values of one size"),
    ],
)
def test_what_a_kernel_lacks_is_an_error_that_names_the_others(
    installed: set[str], kind: str, wanted: str, dtype: torch.dtype, cuda: bool, message: str
) -> None:
    installed.add("triton")

    with pytest.raises(RecipeError) as raised:
        choose(_model(kind), wanted, dtype, cuda=cuda)

    assert f"model.attention: {message}" in str(raised.value)


def test_a_head_too_large_for_flash_is_said(installed: set[str]) -> None:
    with pytest.raises(RecipeError, match="heads of at most 256, and this model's have 512"):
        choose(_model("qwen3", head_dim=512), "flash", HALF, cuda=True)


def test_a_head_too_small_for_flex_is_said(installed: set[str]) -> None:
    installed.add("triton")
    with pytest.raises(RecipeError, match="flex takes heads of at least 16, and this model's have 8; set it to"):
        choose(_model("llama", head_dim=8), "flex", HALF, cuda=True)
    assert choose(_model("llama", head_dim=8), "auto", FULL, cuda=True) == SEGMENTS


def test_without_triton_flex_says_so(installed: set[str]) -> None:
    with pytest.raises(RecipeError, match="flex needs the package triton; set it to flash, segments or auto"):
        choose(_model("llama"), "flex", HALF, cuda=True)


@pytest.mark.parametrize("wanted", KERNELS)
def test_each_is_set_on_a_model_by_its_name(installed: set[str], wanted: str) -> None:
    installed.add("triton")
    model = _model("llama")

    model.set_attn_implementation(choose(model, wanted, HALF, cuda=True))

    assert model.config._attn_implementation == KERNELS[wanted]
