"""What a finished run made: the folder that a run folder holds it in."""

from pathlib import Path

from trainer.errors import Problem, RecipeError


def result_of(run: str | Path, key: str) -> Path:
    """`model` or `adapter` of a run folder; RecipeError at `key` where the folder holds no finished run."""
    folder = Path(run).expanduser()
    if not (folder / "recipe.yaml").is_file():
        message = f"{run} is no run folder: it holds no recipe.yaml; name the output of a finished run"
        raise RecipeError([Problem(key, message)])
    for result in (folder / "model", folder / "adapter"):
        if result.is_dir():
            return result
    message = f"{run} holds neither model nor adapter: the run is not finished; train it to its end first"
    raise RecipeError([Problem(key, message)])
