import importlib.util
from pathlib import Path
from typing import Any

import a_recipe
import pytest

from trainer.plan.machine import problems


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"model": {"dtype": "float16"}}, "model.dtype"),
        ({"model": {"dtype": "float32"}, "train": {"precision": "float16"}}, "train.precision"),
    ],
)
def test_float16_needs_a_device(sections: dict[str, dict[str, str]], key: str) -> None:
    recipe = a_recipe.recipe(**sections, engine={"kind": "deepspeed"})

    (problem,) = problems(recipe, devices=0)

    assert str(problem) == f"{key}: float16 needs a CUDA device, and there is none; set it to bfloat16 or float32"
    assert problems(recipe, devices=1) == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_other_numbers_run_everywhere(dtype: str) -> None:
    assert problems(a_recipe.recipe(model={"dtype": dtype}), devices=0) == []


@pytest.mark.parametrize("wanted", ["flash", "flex"])
def test_kernels_of_a_device_need_one(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    recipe = a_recipe.recipe(model={"attention": wanted})

    (problem,) = problems(recipe, devices=0)

    assert str(problem) == (
        f"model.attention: {wanted} needs a CUDA device, and there is none; set it to segments or auto"
    )
    assert [one.message for one in problems(recipe, devices=1)] == (
        ["flex needs the package triton; pip install triton, or set it to auto"] if wanted == "flex" else []
    )


def offload(section: str, folder: Path) -> dict[str, Any]:
    return {"zero_optimization": {section: {"device": "nvme", "nvme_path": str(folder)}}}


@pytest.mark.parametrize(("section", "zero"), [("offload_optimizer", 2), ("offload_param", 3)])
def test_a_folder_to_offload_to_has_to_be_there(
    section: str, zero: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctypes.util.find_library", lambda name: f"lib{name}.so.1")
    absent, there = tmp_path / "absent", tmp_path / "there"
    there.mkdir()
    recipes = [
        a_recipe.recipe(engine={"kind": "deepspeed", "zero": zero, "deepspeed": offload(section, folder)})
        for folder in (absent, there)
    ]

    (problem,) = problems(recipes[0], devices=0)

    assert problem.where == f"engine.deepspeed.zero_optimization.{section}.nvme_path"
    assert problem.message == f"there is no folder {absent}; make it on the drive, or name another"
    assert problems(recipes[1], devices=0) == []


def test_offload_to_a_drive_names_the_library_that_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    recipe = a_recipe.recipe(
        engine={"kind": "deepspeed", "zero": 2, "deepspeed": offload("offload_optimizer", tmp_path)}
    )

    (problem,) = problems(recipe, devices=0)

    assert "libaio-dev" in problem.message
