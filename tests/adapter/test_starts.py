"""LoRA that begins with a part of the weights, or with what their quantization lost."""

from pathlib import Path
from typing import Any

import a_model
import a_recipe
import pytest
import torch
from transformers import AutoModelForCausalLM

from trainer.adapter.methods import METHODS
from trainer.model import quantize

IDS = torch.arange(3, 60)[None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_model.save(tmp_path_factory.mktemp("base") / "llama", tied=False)


def begun(base: Path, start: str, **model: Any) -> Any:
    settings = {"name": str(base), "dtype": "float32", **model}
    recipe = a_recipe.recipe(model=settings, adapter={"kind": "lora", "r": 4, "alpha": 4, "start": start})
    loaded = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **quantize.loading(recipe))
    quantize.mend(loaded)
    return METHODS["lora"](loaded, recipe, range(0)).model.eval()


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_a_part_is_taken_out_and_put_beside(base: Path, start: str) -> None:
    plain = AutoModelForCausalLM.from_pretrained(base)
    model = begun(base, start)

    with torch.no_grad():
        assert torch.allclose(model(IDS).logits, plain(IDS).logits, atol=2e-5)
    layer, whole = model.model.layers[0].mlp.up_proj, plain.model.layers[0].mlp.up_proj.weight
    assert not torch.allclose(layer.base_layer.weight, whole, atol=1e-3)
    if start == "pissa":
        values = torch.linalg.svdvals(whole.double())
        left = torch.linalg.svdvals(layer.base_layer.weight.detach().double())
        assert torch.allclose(left[: len(values) - 4], values[4:], atol=1e-3)


def test_loftq_is_nearer_to_the_whole_weights_than_the_quantized_ones_are(base: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        wanted = plain(IDS).logits
        default, loftq = (
            float((begun(base, start, quantization="nf4")(IDS).logits - wanted).norm())
            for start in ("default", "loftq")
        )

    assert loftq < 0.7 * default
