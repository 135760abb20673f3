"""An adapter put into its base says what it said beside it."""

from pathlib import Path
from typing import Any

import a_model
import pytest
import torch
from adapter.test_certificate import IDS, saved, trained
from transformers import AutoModelForCausalLM

from trainer.adapter import merge
from trainer.errors import RecipeError

BASES = {"llama": ("llama", False), "tied": ("llama", True), "gpt2": ("gpt2", True)}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {name: a_model.save(folder / name, kind, tied=tied) for name, (kind, tied) in BASES.items()}


KEYS: dict[str, dict[str, Any]] = {
    "lora": {"r": 4},
    "pissa": {"r": 4, "start": "pissa"},
    "dora": {"kind": "dora", "r": 4, "rslora": True},
    "ia3": {"kind": "ia3"},
    "adalora": {"kind": "adalora", "first": 4, "r": 2},
    "vera": {"kind": "vera", "r": 8},
    "nf4": {"r": 4, "model": {"quantization": "nf4"}},
    "int8": {"r": 4, "model": {"quantization": "int8"}},
    "dora int8": {"kind": "dora", "r": 4, "model": {"quantization": "int8"}},
}
QUICK = [("llama", "lora"), ("tied", "lora"), ("llama", "dora"), ("gpt2", "nf4"), ("llama", "dora int8")]
OTHERS = [(base, kind) for base in BASES for kind in KEYS if (base, kind) not in QUICK]


@pytest.mark.parametrize(("base", "kind"), [*QUICK, *(pytest.param(*one, marks=pytest.mark.slow) for one in OTHERS)])
def test_a_merged_model_says_what_the_run_says(bases: dict[str, Path], base: str, kind: str, tmp_path: Path) -> None:
    keys = KEYS[kind]
    recipe, adapted = trained(
        bases[base], **{key: dict(value) if key == "model" else value for key, value in keys.items()}
    )
    saved(adapted, tmp_path / "adapter")
    adapted.model.config.save_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        said = adapted.model.eval()(input_ids=IDS).logits

    made = merge.merge(recipe, tmp_path / "adapter", 257, "float32")
    made.model.save_pretrained(tmp_path / "merged")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        again = loaded(input_ids=IDS).logits

    int8 = recipe.model.quantization == "int8"
    allowed = 0.05 if int8 else 1e-5  # int8 rounds what enters a layer too
    assert float((again - said).norm() / said.norm()) <= allowed
    assert made.difference <= allowed
    assert (made.rounding is None) == (recipe.model.quantization == "none")
    assert not hasattr(loaded.config, "quantization_config")
    assert not any("lora" in name or "ia3" in name for name, _ in loaded.named_parameters())


def test_fewer_bits_are_told(bases: dict[str, Path], tmp_path: Path) -> None:
    recipe, adapted = trained(bases["llama"], r=4)
    saved(adapted, tmp_path / "adapter")
    adapted.model.config.save_pretrained(tmp_path / "adapter")

    made = merge.merge(recipe, tmp_path / "adapter", 257, "bfloat16")

    assert {weight.dtype for weight in made.model.parameters()} == {torch.bfloat16}
    assert 1e-4 < made.difference < 3e-2


def test_several_adapters_are_put_together_by_their_weights(bases: dict[str, Path], tmp_path: Path) -> None:
    folders = []
    for name, seed in (("one", 0), ("other", 7)):
        recipe, adapted = trained(bases["llama"], r=4, alpha=4)
        with torch.no_grad():
            for weight in adapted.model.parameters():
                if weight.requires_grad:
                    weight.normal_(std=0.1, generator=torch.Generator().manual_seed(seed))
        saved(adapted, tmp_path / name)
        adapted.model.config.save_pretrained(tmp_path / name)
        folders.append(tmp_path / name)
    one, other = (merge.merge(recipe, folder, 257, "float32").model.state_dict() for folder in folders)
    plain = AutoModelForCausalLM.from_pretrained(bases["llama"]).state_dict()

    made = merge.merge(recipe, folders[0], 257, "float32", merge.Several((folders[1],), (0.7, 0.3), "cat"))

    assert made.difference <= 1e-5
    for name, weight in made.model.state_dict().items():
        expected = plain[name] + 0.7 * (one[name] - plain[name]) + 0.3 * (other[name] - plain[name])
        assert torch.allclose(weight, expected, atol=1e-6), name
    for how in ("linear", "ties", "dare_linear", "dare_ties"):
        found = merge.merge(recipe, folders[0], 257, "float32", merge.Several((folders[1],), (0.7, 0.3), how))
        assert found.difference <= 1e-5


def test_what_has_no_place_in_weights_is_told(bases: dict[str, Path], tmp_path: Path) -> None:
    recipe, adapted = trained(bases["llama"], kind="prompt", tokens=3)
    saved(adapted, tmp_path / "adapter")

    with pytest.raises(RecipeError, match=r"holds what stands before rows \(PROMPT_TUNING\), which no weights"):
        merge.merge(recipe, tmp_path / "adapter", 257, "float32")
