"""A finished run in a form that other tools load: `shardtune export RUN --to merged`."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainer import finished
from trainer.adapter import merge
from trainer.checkpoint.whole import written_whole
from trainer.errors import Problem, RecipeError

Say = Callable[[str], None]
_OF_ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "config.json", "README.md")
"""What of an adapter's folder a whole model is without."""


@dataclass(frozen=True)
class Others:
    """Runs on the same base whose adapters are put together with that of the run."""

    runs: tuple[Path, ...] = ()
    weights: tuple[float, ...] = ()
    """Of the run itself and of each of them; none: all alike, 1 together."""
    how: str = "linear"
    density: float = 0.5


def merged(run: Path, out: Path | None, dtype: str | None, say: Say, others: Others = Others()) -> Path:
    """The adapter of a run put into its base, as a folder that transformers loads; RecipeError where there is none."""
    done = _with_adapter(run)
    several = _several(others)
    target = out or run / "merged"
    if target.exists() and any(target.iterdir()) and not (target / "config.json").is_file():
        raise RecipeError([Problem("--out", f"{target} holds something else than a model; name another folder")])
    named = " and ".join(str(one) for one in (done.result, *(several.results if several else ())))
    say(f"Putting {named} into {done.recipe.model.name} ...")
    made = merge.merge(done.recipe, done.result, len(done.tokenizer), dtype or done.recipe.model.dtype, several)
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


def _with_adapter(run: Path) -> finished.Finished:
    done = finished.open_run(run, [])
    if done.result.name != "adapter":
        raise RecipeError([Problem("RUN", f"{run} has no adapter: {done.result} is a whole model already")])
    return done


def _several(others: Others) -> merge.Several | None:
    """RecipeError where weights do not belong to runs."""
    if not others.runs:
        return None
    count = 1 + len(others.runs)
    weights = others.weights or (1 / count,) * count
    if len(weights) != count:
        message = f"holds {len(weights)} numbers for {count} adapters: one of RUN, and one for each --with"
        raise RecipeError([Problem("--weights", message)])
    results = tuple(_with_adapter(run).result for run in others.runs)
    return merge.Several(results, weights, others.how, others.density)
