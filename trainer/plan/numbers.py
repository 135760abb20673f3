"""Whether this machine's devices compute in the numbers that a recipe asks for."""

from trainer.config.recipe import Recipe
from trainer.errors import Problem


def problems(recipe: Recipe, devices: int) -> list[Problem]:
    """What a machine with so many CUDA devices lacks."""
    if devices:
        return []
    wanted = {"model.dtype": recipe.model.dtype, "train.precision": recipe.train.precision}
    message = "float16 needs a CUDA device, and there is none; set it to bfloat16 or float32"
    return [Problem(key, message) for key, number in wanted.items() if number == "float16"]
