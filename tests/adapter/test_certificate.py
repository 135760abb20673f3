"""What an adapter's certificate says, and when there is none."""

from pathlib import Path
from typing import Any

import a_model
import a_recipe
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from trainer.adapter import certificate, lora_product
from trainer.adapter.adapted import Adapted
from trainer.adapter.certificate import WEIGHTS
from trainer.adapter.methods import METHODS
from trainer.config.recipe import Recipe
from trainer.errors import RunError
from trainer.model import quantize

IDS = torch.arange(3, 90)[None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_model.save(tmp_path_factory.mktemp("base") / "llama", tied=False)


def trained(base: Path, **keys: Any) -> tuple[Recipe, Adapted]:
    """A model whose adapter is drawn, and fused as in training."""
    model = {"name": str(base), "dtype": "float32", **keys.pop("model", {})}
    recipe = a_recipe.recipe(model=model, adapter={"kind": "lora", **keys})
    loaded = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **quantize.loading(recipe))
    quantize.mend(loaded)
    adapted = METHODS[recipe.adapter.kind](loaded, recipe, range(0))
    for name, weight in adapted.model.named_parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    lora_product.fuse(adapted.model)
    return recipe, adapted


def saved(adapted: Adapted, folder: Path) -> dict[str, torch.Tensor]:
    assert adapted.save is not None
    folder.mkdir()
    return adapted.save(folder, {name: adapted.model.state_dict()[name] for name in adapted.added})


@pytest.mark.parametrize(
    "keys",
    [
        {"r": 4},
        {"r": 4, "start": "pissa"},
        {"r": 4, "start": "loftq", "model": {"quantization": "nf4"}},
        {"kind": "p_tuning", "tokens": 4, "hidden": 6},
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in (
                {"kind": "dora", "r": 4, "rslora": True},
                {"kind": "ia3"},
                {"kind": "adalora", "first": 4, "r": 2},
                {"kind": "vera", "r": 8},
                {"kind": "oft", "block": 8},
                {"kind": "prompt", "tokens": 4},
                {"kind": "prefix", "tokens": 4, "hidden": 6},
                {"kind": "peft", "method": "vblora", "settings": {"vector_length": 8, "num_vectors": 5}},
            )
        ),
    ],
    ids=str,
)
def test_a_stranger_says_what_the_run_says(base: Path, tmp_path: Path, keys: dict[str, Any]) -> None:
    recipe, adapted = trained(base, **keys)
    asked = certificate.ask(recipe, adapted.model, IDS)
    assert asked is not None and len(asked.ids[0]) == certificate.MOST_TOKENS

    written = saved(adapted, tmp_path / "adapter")
    issued = certificate.issue(recipe, tmp_path / "adapter", written, 257, adapted.model.config, asked)

    assert issued.tensors == len(written) and issued.zeros == 0
    assert issued.nbytes == (tmp_path / "adapter" / WEIGHTS).stat().st_size
    assert issued.difference is not None and issued.difference <= 3e-6


def test_another_adapter_is_no_adapter_of_this_run(base: Path, tmp_path: Path) -> None:
    recipe, adapted = trained(base, r=4)
    asked = certificate.ask(recipe, adapted.model, IDS)
    with torch.no_grad():
        for name, weight in adapted.model.named_parameters():
            if "lora_B" in name:
                weight.add_(0.02)
    written = saved(adapted, tmp_path / "adapter")

    with pytest.raises(RunError, match="another program that loads the adapter says something else: outputs differ by"):
        certificate.issue(recipe, tmp_path / "adapter", written, 257, adapted.model.config, asked)


def test_a_file_without_a_tensor_or_with_another_one_is_told(base: Path, tmp_path: Path) -> None:
    recipe, adapted = trained(base, r=4)
    written = saved(adapted, tmp_path / "adapter")
    file = tmp_path / "adapter" / WEIGHTS
    first, *others = sorted(load_file(file))

    whole = load_file(file)
    save_file({name: whole[name] for name in others}, file)
    with pytest.raises(RunError, match=f"is not the one that was trained: {first}"):
        certificate.issue(recipe, tmp_path / "adapter", written, 257, adapted.model.config, None)
    save_file({**whole, first: whole[first] + 1e-3}, file)
    with pytest.raises(RunError, match=f"is not the one that was trained: {first}"):
        certificate.issue(recipe, tmp_path / "adapter", written, 257, adapted.model.config, None)


def test_nothing_but_zeros_is_nothing(base: Path, tmp_path: Path) -> None:
    recipe, adapted = trained(base, r=4)
    with torch.no_grad():
        for weight in adapted.model.parameters():
            weight.mul_(0.0 if weight.requires_grad else 1.0)
    written = saved(adapted, tmp_path / "adapter")

    with pytest.raises(RunError, match="the adapter holds nothing but zeros: it trained nothing"):
        certificate.issue(recipe, tmp_path / "adapter", written, 257, adapted.model.config, None)


def test_an_adapter_that_does_not_load_is_told(base: Path, tmp_path: Path) -> None:
    recipe, adapted = trained(base, r=4)
    asked = certificate.ask(recipe, adapted.model, IDS)
    written = saved(adapted, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")

    with pytest.raises(RunError, match="another program cannot load the adapter: "):
        certificate.issue(recipe, tmp_path / "adapter", written, 257, adapted.model.config, asked)
