"""Adapters that do not belong to the base that is named, or lack a part."""

import shutil
from pathlib import Path
from typing import Any

import a_model
import pytest
import torch
from adapter.test_certificate import saved, trained
from transformers import AutoConfig, AutoModelForCausalLM

from trainer.adapter.finished import load_finished
from trainer.config.recipe import Recipe
from trainer.errors import RecipeError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    folder = tmp_path_factory.mktemp("made")
    recipe, adapted = trained(a_model.save(folder / "here" / "llama", tied=False), r=4)
    saved(adapted, folder / "adapter")
    adapted.model.config.save_pretrained(folder / "adapter")
    return recipe, folder / "adapter"


def on(recipe: Recipe, base: Path) -> Recipe:
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"name": str(base)})})


def loaded(recipe: Recipe, folder: Path) -> Any:
    return load_finished(recipe, folder, 257, torch.device("cpu"))


def test_a_base_may_lie_elsewhere_under_its_name(made: tuple[Recipe, Path], tmp_path: Path) -> None:
    recipe, folder = made
    shutil.copytree(str(recipe.model.name), tmp_path / "llama")

    ids = torch.arange(20)[None]
    there = loaded(on(recipe, tmp_path / "llama"), folder)(input_ids=ids).logits
    assert torch.equal(there, loaded(recipe, folder)(input_ids=ids).logits)


def test_another_base_is_told_by_its_name(made: tuple[Recipe, Path], tmp_path: Path) -> None:
    recipe, folder = made
    other = a_model.save(tmp_path / "gpt", "gpt2")

    with pytest.raises(RecipeError, match=r"model\.name: .*gpt is not what .*adapter was trained on, .*llama"):
        loaded(on(recipe, other), folder)


def test_other_shapes_are_told(made: tuple[Recipe, Path], tmp_path: Path) -> None:
    recipe, folder = made
    shutil.copytree(str(recipe.model.name), tmp_path / "llama")
    config = AutoConfig.from_pretrained(tmp_path / "llama", intermediate_size=40)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "llama")

    with pytest.raises(RecipeError, match=r"has other layers than what .*adapter was trained on.*size mismatch for"):
        loaded(on(recipe, tmp_path / "llama"), folder)


def test_a_folder_without_weights_is_told(made: tuple[Recipe, Path], tmp_path: Path) -> None:
    recipe, folder = made
    shutil.copytree(folder, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()

    with pytest.raises(RecipeError, match=r"RUN: .*adapter has no adapter_model\.safetensors; put that file back"):
        loaded(recipe, tmp_path / "adapter")
