"""A base in 4 or 8 bits: what is quantized, how many bytes it takes, and that gradients pass after an evaluation."""

from pathlib import Path
from typing import Any

import a_model
import a_recipe
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from trainer.adapter import lora, lora_product
from trainer.config.recipe import Recipe
from trainer.model import quantize
from trainer.parameter import parameter
from trainer.plan import quantized

KINDS: list[dict[str, Any]] = [
    {"quantization": "nf4"},
    {"quantization": "nf4", "double_quantization": True},
    {"quantization": "fp4"},
    {"quantization": "int8"},
    {"quantization": "nf4", "quantization_skip": ["o_proj", "mlp.down_proj"]},
]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {kind: a_model.save(folder / kind, kind, tied=False) for kind in ("llama", "gpt2")}


def recipe_of(base: Path, **model: Any) -> Recipe:
    return a_recipe.recipe(model={"name": str(base), "dtype": "float32", **model}, adapter={"kind": "lora", "r": 2})


def loaded(recipe: Recipe) -> PreTrainedModel:
    told = quantize.loading(recipe)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(recipe.model.name, dtype=torch.float32, **told)
    quantize.mend(model)
    return model


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("body", ["llama", "gpt2"])
def test_linear_layers_but_the_head_are_quantized_as_planned(
    bases: dict[str, Path], body: str, kind: dict[str, Any]
) -> None:
    recipe = recipe_of(bases[body], **kind)
    plain = AutoModelForCausalLM.from_pretrained(bases[body])
    listed = [parameter(name, tuple(weight.shape)) for name, weight in plain.named_parameters()]

    model = loaded(recipe)

    found = {name for name, weight in model.named_parameters() if quantize.is_quantized(weight)}
    assert found == {one.name for one in listed if quantized.is_quantized(recipe.model, one)}
    assert "lm_head.weight" not in found and any("attn" in name for name in found)
    held = quantize.entries(model)
    state = model.state_dict()
    # What says how 4 bits are read stands in the state as text.
    stored = sum(
        one.nbytes
        for name, one in state.items()
        if not name.endswith(("quant_state.bitsandbytes__nf4", "quant_state.bitsandbytes__fp4"))
    )
    planned = quantized.nbytes(recipe.model, listed, 4)
    assert stored == pytest.approx(planned, rel=0.02)
    assert found <= held and not any(name.endswith("bias") for name in held)


@pytest.mark.parametrize(
    "kind",
    [{"quantization": "nf4"}, {"quantization": "nf4", "double_quantization": True}, {"quantization": "int8"}],
    ids=str,
)
@pytest.mark.parametrize("body", ["llama", "gpt2"])
def test_gradients_reach_the_inputs_after_an_evaluation_too(
    bases: dict[str, Path], body: str, kind: dict[str, Any]
) -> None:
    recipe = recipe_of(bases[body], **kind)
    model = lora.apply(loaded(recipe), recipe, range(0)).model
    ids = torch.arange(3, 40)[None]
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in weights:
        torch.nn.init.normal_(weight, std=0.1)

    def gradients() -> list[torch.Tensor]:
        model.train()
        return list(torch.autograd.grad(model(input_ids=ids, labels=ids).loss, weights))

    before = gradients()
    model.eval()
    with torch.no_grad():
        model(input_ids=ids)

    assert all(torch.equal(one, two) for one, two in zip(before, gradients(), strict=True))


@pytest.mark.parametrize("double", [False, True])
def test_one_function_beside_4_bits_is_pefts_own(bases: dict[str, Path], double: bool) -> None:
    recipe = recipe_of(bases["llama"], quantization="nf4", double_quantization=double)
    found = []
    for fused in (False, True):
        model = lora.apply(loaded(recipe), recipe, range(0)).model
        weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        torch.manual_seed(0)
        for weight in weights.values():
            torch.nn.init.normal_(weight, std=0.1)
        if fused:
            assert lora_product.fuse(model) == 14
        loss = model(input_ids=torch.arange(3, 40)[None], labels=torch.arange(3, 40)[None]).loss
        found.append((loss.detach(), dict(zip(weights, torch.autograd.grad(loss, [*weights.values()]), strict=True))))

    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_inputs_are_rounded_in_8_bits_alone(bases: dict[str, Path], kind: str) -> None:
    model = loaded(recipe_of(bases["llama"], quantization=kind))

    assert quantize.rounds_inputs(model) == (kind == "int8")
    # bitsandbytes moves what it keeps beside weights in the first pass.
    model(torch.arange(9)[None])
    assert quantize.rounds_inputs(model) == (kind == "int8")
