"""From a recipe to a run folder that processes can start in. Nothing here imports torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer import ranks
from trainer.checkpoint.listing import steps_of
from trainer.config.agreement import differences
from trainer.config.load import dump, load
from trainer.config.recipe import Recipe
from trainer.config.rules import RULES
from trainer.config.task_rules import formats_fit_the_task
from trainer.errors import Problem, RecipeError
from trainer.launch import local, lock
from trainer.plan import deepspeed_json, machine, parameters, quantized, trainable
from trainer.plan import plan as plans
from trainer.plan.files import write_text
from trainer.plan.plan import Plan


def read(path: Path, overrides: Sequence[str], *, to_train: bool = True) -> Recipe:
    """The recipe of a file; RecipeError holds all that is wrong with it, its model folder and its DeepSpeed JSON.

    Unless it is read `to_train`, the rows of a language model may be of a format that is only shown.
    """
    rules = RULES
    if not to_train:
        rules = (*(rule for rule in RULES if rule is not formats_fit_the_task), _formats_can_be_shown)
    checks = (
        deepspeed_json.problems,
        lambda recipe: parameters.problems(recipe.model),
        quantized.problems,
        trainable.problems,
    )
    return load(path, overrides, checks=checks, rules=rules)


def _formats_can_be_shown(recipe: Recipe) -> Problem | None:
    return None if recipe.task.learns_tokens else formats_fit_the_task(recipe)


def plan_of(recipe: Recipe, *, resuming: bool = False) -> Plan:
    """The plan of a recipe over its counted rows; what only tokens can tell is left open."""
    # Here, because it imports NumPy, which a wrong recipe need not wait for.
    from trainer.data import counting

    if not resuming:
        plans.check_batch(recipe)
    return plans.make(recipe, counting.count(recipe), vocabulary=_vocabulary(recipe), resuming=resuming)


def _vocabulary(recipe: Recipe) -> int | None:
    """The size of the vocabulary where the recipe alone tells it."""
    tokenizer = recipe.model.tokenizer
    if tokenizer is None or isinstance(tokenizer, str):
        return None
    return tokenizer.vocab_size + len(recipe.model.add_tokens)


@dataclass(frozen=True)
class Start:
    """What is known before the processes start."""

    folder: Path
    plan: Plan
    changed: list[str]
    """Settings that differ from those of the run that is resumed, and may."""
    resuming: bool
    done: bool
    """Whether the folder holds this very run, completed."""


def examine(recipe: Recipe) -> Start:
    """What a start of this recipe would do; raises what forbids it, and changes nothing."""
    lacking = machine.problems(recipe, ranks.accelerators())
    if lacking:
        raise RecipeError(lacking)
    folder = Path(recipe.output)
    resuming, changed = False, list[str]()
    previous = folder / "recipe.yaml"
    if folder.exists() and not folder.is_dir():
        raise RecipeError([Problem("output", f"{folder} is a file; name a folder")])
    if previous.exists() and steps_of(folder):
        if recipe.checkpoint.resume == "never":
            message = f"{folder} holds a checkpoint, and checkpoint.resume is never; name another output"
            raise RecipeError([Problem("output", message)])
        problems, changed = differences(load(previous), recipe)
        if problems:
            raise RecipeError(problems)
        resuming = True
    elif folder.is_dir() and not previous.exists() and any(path.name != lock.FILE for path in folder.iterdir()):
        raise RecipeError([Problem("output", f"{folder} holds files of something else; name a new or an empty folder")])
    plan = plan_of(recipe, resuming=resuming)
    return Start(folder, plan, changed, resuming, resuming and _is_done(folder, plan, changed))


def write(start: Start, recipe: Recipe) -> None:
    """The recipe, where the processes will read it."""
    write_text(start.folder / "recipe.yaml", dump(recipe))


def run(start: Start, recipe: Recipe, held: int) -> None:
    """Starts the processes of a folder whose lock is held, and waits for their end; raises what went wrong."""
    local.run(
        start.folder,
        processes=start.plan.batch.ranks,
        address=recipe.launch.address,
        port=recipe.launch.port,
        threads=recipe.train.threads,
        held=held,
    )


def _is_done(folder: Path, plan: Plan, changed: list[str]) -> bool:
    """Whether a folder holds a plan's run, completed; where its steps are not known yet, one of the same length."""
    if plan.steps is not None:
        return _completed(folder) >= plan.steps
    longer = any(change.startswith(("train.epochs:", "train.max_steps:")) for change in changed)
    return _completed(folder) > 0 and not longer


def _completed(folder: Path) -> int:
    """Steps of the completed run that a folder holds; 0 where there is none."""
    path = folder / "summary.json"
    if not path.exists():
        return 0
    summary = json.loads(path.read_text(encoding="utf-8"))
    return int(summary.get("steps", 0)) if summary.get("status") == "completed" else 0
