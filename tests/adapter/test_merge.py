"""An adapter put into its base says what it said beside it."""

from pathlib import Path
from typing import Any

import a_model
import pytest
import torch
from adapter.test_certificate import IDS, saved, trained
from transformers import AutoModelForCausalLM

from trainer.adapter import merge

BASES = {"llama": ("llama", False), "tied": ("llama", True), "gpt2": ("gpt2", True)}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {name: a_model.save(folder / name, kind, tied=tied) for name, (kind, tied) in BASES.items()}


KEYS: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"kind": "dora", "rslora": True},
    "ia3": {"kind": "ia3", "r": 16},
    "nf4": {"model": {"quantization": "nf4"}},
    "int8": {"model": {"quantization": "int8"}},
}
QUICK = [("llama", "lora"), ("tied", "lora"), ("llama", "dora"), ("gpt2", "nf4")]
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
    recipe, adapted = trained(bases["llama"])
    saved(adapted, tmp_path / "adapter")
    adapted.model.config.save_pretrained(tmp_path / "adapter")

    made = merge.merge(recipe, tmp_path / "adapter", 257, "bfloat16")

    assert {weight.dtype for weight in made.model.parameters()} == {torch.bfloat16}
    assert 1e-4 < made.difference < 3e-2
