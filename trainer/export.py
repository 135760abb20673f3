"""A finished run in a form that other tools load: `shardtune export RUN --to merged`."""

import shutil
from collections.abc import Callable
from pathlib import Path

from trainer import finished
from trainer.adapter import merge
from trainer.checkpoint.whole import written_whole
from trainer.errors import Problem, RecipeError

Say = Callable[[str], None]
_OF_ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "config.json", "README.md")
"""What of an adapter's folder a whole model is without."""


def merged(run: Path, out: Path | None, dtype: str | None, say: Say) -> Path:
    """The adapter of a run put into its base, as a folder that transformers loads; RecipeError where there is none."""
    done = finished.open_run(run, [])
    if done.result.name != "adapter":
        raise RecipeError([Problem("RUN", f"{run} has no adapter: {done.result} is a whole model already")])
    target = out or run / "merged"
    if target.exists() and any(target.iterdir()) and not (target / "config.json").is_file():
        raise RecipeError([Problem("--out", f"{target} holds something else than a model; name another folder")])
    say(f"Putting {done.result} into {done.recipe.model.name} ...")
    made = merge.merge(done.recipe, done.result, len(done.tokenizer), dtype or done.recipe.model.dtype)
    with written_whole(target) as unfinished:
        made.model.save_pretrained(unfinished)
        for file in done.result.iterdir():
            if file.is_file() and file.name not in _OF_ADAPTER:
                shutil.copy2(file, unfinished / file.name)
    say(f"Model: {target}, in {dtype or done.recipe.model.dtype}")
    say(f"Its outputs differ by {made.difference:.1e} of the norm of those with the adapter beside the base.")
    if made.rounding is not None:
        kind = done.recipe.model.quantization
        say(f"{made.rounding:.1e} of that comes of computing with weights that were in {kind} as whole ones.")
    return target
