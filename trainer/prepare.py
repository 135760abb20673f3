"""From a recipe to a run folder that processes can start in. Nothing here imports torch."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from trainer import ranks
from trainer.checkpoint.listing import steps_of
from trainer.config.agreement import differences
from trainer.config.launch import Nodes
from trainer.config.load import dump, load
from trainer.config.recipe import Recipe
from trainer.config.rules import RULES
from trainer.config.task_rules import formats_fit_the_task
from trainer.environment import log_into, settle_environment
from trainer.errors import Problem, RecipeError, RunError, ShardtuneError
from trainer.launch import lock, outcome, supervise
from trainer.launch.job import FOLDER
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

    plans.check_batch(recipe, resuming=resuming)
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


_EARLIER = (lock.FILE, FOLDER)
"""What a run folder may hold before the run."""


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
    elif folder.is_dir() and not previous.exists() and any(path.name not in _EARLIER for path in folder.iterdir()):
        raise RecipeError([Problem("output", f"{folder} holds files of something else; name a new or an empty folder")])
    plan = plan_of(recipe, resuming=resuming)
    return Start(folder, plan, changed, resuming, resuming and _is_done(folder, plan, changed))


def write(folder: Path, recipe: Recipe) -> None:
    """The recipe, where the processes will read it."""
    write_text(folder / "recipe.yaml", dump(recipe))


def run(start: Start, recipe: Recipe, held: int) -> None:
    """Starts the processes of a folder whose lock is held, and waits for their end; raises what went wrong."""
    launch = recipe.launch
    place = supervise.Place(launch.meeting_address, launch.port, patience=launch.patience)
    _supervise(recipe, place, start.plan.batch.ranks, held)


def check_one_machine(recipe: Recipe) -> None:
    """RecipeError where a run of several nodes is started without saying which one this is."""
    if recipe.launch.most_nodes > 1:
        way_out = "start it on each with --node N, or hand it over with `shardtune launch RECIPE --to KIND`"
        raise RecipeError([Problem("launch.nodes", f"is more than this machine; {way_out}")])


def number_of(node: str) -> int:
    """The number of this node; RecipeError where `--node` names none."""
    number = ranks.node_number(node)
    if number is None:
        raise RecipeError([Problem("--node", f"{node} is no number, and no variable that is set to one; name it")])
    return number


def run_node(recipe: Recipe, node: int, address: str | None, say: Callable[[str], None]) -> None:
    """The part of a run that one of several nodes has; raises what went wrong, here or on another node.

    The first node checks all that a start on one machine checks, and holds the folder's lock.
    """
    launch, folder = recipe.launch, Path(recipe.output)
    if isinstance(launch.nodes, Nodes) or node >= launch.nodes:
        message = f"node {node} is not one of {launch.nodes}; nodes are numbered from 0, and their number is fixed"
        raise RecipeError([Problem("launch.nodes", message)])
    port = launch.port if launch.nodes == 1 else launch.meeting_port
    place = supervise.Place(address or launch.meeting_address, port, node, launch.nodes, launch.patience)
    if launch.nodes > 1:
        say(f"Node {node} of {launch.nodes} meets the others at {place.address}:{port}")
    if node:
        if lacking := machine.problems(recipe, ranks.accelerators()):
            raise RecipeError(lacking)
        assert launch.processes != "auto", "several nodes name them"
        _supervise(recipe, place, launch.processes, None)
        return
    start = examine(recipe)
    with lock.hold(folder) as held:
        for change in start.changed:
            say(f"Changed since the run was begun: {change}")
        _supervise(recipe, place, start.plan.batch.ranks // launch.nodes, held)


def _supervise(recipe: Recipe, place: supervise.Place, processes: int, held: int | None) -> None:
    folder = Path(recipe.output)

    def ready() -> None:
        # Other nodes find what the first one wrote, unless they share no file system with it.
        there = folder / "recipe.yaml"
        if place.node == 0 or not there.exists() or there.read_text(encoding="utf-8") != dump(recipe):
            folder.mkdir(parents=True, exist_ok=True)
            write(folder, recipe)

    supervise.run(folder, processes=processes, place=place, threads=recipe.train.threads, held=held, ready=ready)


def join(path: Path, settings: Sequence[str]) -> Path:
    """The run folder of a process that another launcher started, made by rank 0; the process writes into its log.

    The folder's lock is rank 0's until it ends.
    """
    recipe = read(path, settings)
    folder = Path(recipe.output)
    settle_environment()
    if ranks.is_main():
        _kept.append(stack := ExitStack())
        stack.enter_context(lock.hold(folder))
        _begin(folder, recipe)
    elif lacking := machine.problems(recipe, ranks.accelerators()):
        raise RecipeError(lacking)
    _wait_for(folder, recipe)
    log_into(folder / outcome.LOGS / f"rank-{ranks.rank()}.log")
    return folder


def _begin(folder: Path, recipe: Recipe) -> None:
    """What rank 0 does in a folder whose lock it holds; what forbids the start is left where launchers look for it."""
    ours = (folder / "recipe.yaml").exists() or all(path.name in _EARLIER for path in folder.iterdir())
    try:
        examine(recipe)
    except ShardtuneError as error:
        if ours:
            outcome.write(folder, 0, error)
        raise
    supervise.tidy(folder, clear=True)
    write(folder, recipe)


_UNSHARED_SECONDS = 30.0
"""After which a node believes that it shares no folder with the first one."""
_kept: list[ExitStack] = []
"""What lasts as long as the process."""


def _wait_for(folder: Path, recipe: Recipe) -> None:
    """Until rank 0 has written the recipe; where the folder is not shared, it is written here."""
    wanted, place = dump(recipe), folder / "recipe.yaml"
    began = time.monotonic()
    while not place.exists() or place.read_text(encoding="utf-8") != wanted:
        waited = time.monotonic() - began
        if waited > recipe.launch.patience:
            raise RunError(f"rank 0 wrote no {place} within {recipe.launch.patience} seconds (launch.patience)")
        if ranks.local_rank() == 0 and ranks.rank() and waited > _UNSHARED_SECONDS:
            (folder / outcome.LOGS).mkdir(parents=True, exist_ok=True)
            write(folder, recipe)
        time.sleep(0.1)


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
