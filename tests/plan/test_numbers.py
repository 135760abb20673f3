import a_recipe
import pytest

from trainer.plan.numbers import problems


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
