"""LoRA: what trains, what does not, and what is refused."""

from pathlib import Path
from typing import Any

import a_model
import a_recipe
import pytest
import torch

from trainer.adapter import lora
from trainer.adapter.adapted import Adapted
from trainer.config.recipe import Recipe
from trainer.data import tokenizer as tokenizers
from trainer.engine.torch import TorchEngine
from trainer.errors import RecipeError
from trainer.model.load import load


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {tied: a_model.save(folder / str(tied), tied=tied) for tied in (True, False)}


def apply(folder: Path, dtype: str = "float32", tokens: tuple[str, ...] = (), seed: int = 0, **keys: Any) -> Adapted:
    recipe = a_recipe.recipe(
        model={"name": str(folder), "dtype": dtype, "add_tokens": list(tokens)},
        adapter={"kind": "lora", "r": 4, **keys},
        train={"seed": seed},
    )
    return lora.apply(*_loaded(recipe, folder))


def _loaded(recipe: Recipe, folder: Path) -> tuple[Any, Recipe, range]:
    tokenizer = tokenizers.load(recipe, folder)
    model = load(recipe, tokenizer, TorchEngine(torch.device("cpu"), None).loading())
    return model, recipe, tokenizers.new_tokens(recipe, tokenizer)


def trained(adapted: Adapted) -> dict[str, torch.Tensor]:
    return {name: one for name, one in adapted.model.named_parameters() if one.requires_grad}


def test_only_what_was_added_trains_and_that_is_what_is_saved(bases: dict[bool, Path]) -> None:
    adapted = apply(bases[True])

    assert all(".lora_A." in name or ".lora_B." in name for name in trained(adapted))
    assert adapted.added == tuple(trained(adapted))
    assert len(adapted.added) == 2 * 7 * 2


def test_the_model_says_the_same_before_the_first_step(bases: dict[bool, Path]) -> None:
    from transformers import AutoModelForCausalLM

    tokens = torch.arange(40)[None]
    expected = AutoModelForCausalLM.from_pretrained(bases[True])(tokens).logits

    model = apply(bases[True], tokens=("<a>",)).model
    model.set_attn_implementation("sdpa")

    assert torch.allclose(model(tokens).logits[..., : a_model.TOKENS], expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_added_is_stored_like_the_model(bases: dict[bool, Path], dtype: str) -> None:
    assert {one.dtype for one in trained(apply(bases[True], dtype, ("<a>",))).values()} == {getattr(torch, dtype)}


def test_the_seed_decides_what_is_drawn(bases: dict[bool, Path]) -> None:
    one, again, other = (trained(apply(bases[True], seed=seed)) for seed in (1, 1, 2))

    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_rank_scale_and_dropout_are_those_of_the_recipe(bases: dict[bool, Path]) -> None:
    layer = apply(bases[True], alpha=6, dropout=0.25).model.model.layers[1].mlp.down_proj

    assert (layer.r["default"], layer.scaling["default"], layer.lora_dropout["default"].p) == (4, 1.5, 0.25)


def test_new_rows_are_shared_where_the_head_shares_its_weights(bases: dict[bool, Path]) -> None:
    tied, untied = (
        [name for name in apply(bases[one], tokens=("<a>", "<b>")).added if name.endswith(".rows")]
        for one in (True, False)
    )

    assert tied == ["model.embed_tokens.rows"]
    assert untied == ["model.embed_tokens.rows", "lm_head.rows"]


def test_the_head_is_no_target_beside_new_tokens(bases: dict[bool, Path]) -> None:
    with pytest.raises(RecipeError, match=r"adapter\.targets: the head cannot be a target"):
        apply(bases[False], tokens=("<a>",), targets=["lm_head"])


def test_a_target_that_the_model_does_not_have_is_told(bases: dict[bool, Path]) -> None:
    with pytest.raises(RecipeError, match="'c_attn' fits the name of no linear layer; known: down_proj"):
        apply(bases[True], targets=["c_attn"])
