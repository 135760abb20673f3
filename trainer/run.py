"""The story of a run, as each of its processes tells it; `trainer.worker` begins it."""

import sys
import warnings
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from trainer import ranks
from trainer.adapter.methods import METHODS
from trainer.callbacks import environment
from trainer.callbacks.audit import Audit
from trainer.callbacks.checkpoint import Checkpoint
from trainer.callbacks.console import Console
from trainer.callbacks.evaluate import Evaluate
from trainer.callbacks.metrics_file import MetricsFile
from trainer.callbacks.phases import Phases
from trainer.callbacks.profile import Profile
from trainer.callbacks.range_test import RangeTest
from trainer.callbacks.sample import samples, write_samples
from trainer.callbacks.summary import Summary
from trainer.callbacks.tensorboard import TensorBoard
from trainer.checkpoint import folder as checkpoints
from trainer.checkpoint import result, resume
from trainer.checkpoint.listing import of_step
from trainer.config.load import dump, load
from trainer.config.recipe import Recipe
from trainer.config.strategy import Cache
from trainer.data import corpus as corpora
from trainer.data import steps
from trainer.data import tokenizer as tokenizers
from trainer.data.ahead import Rows
from trainer.data.batches import Window, Windows
from trainer.data.rank_zero import on_rank_zero
from trainer.engine import build as engines
from trainer.engine import module as modules
from trainer.engine.engine import Engine
from trainer.errors import OutOfMemoryError, RunError, ShardtuneError, Stopped
from trainer.launch import outcome
from trainer.loop.callback import Callback
from trainer.loop.checkpointing import choose_checkpointing
from trainer.loop.evaluate import evaluate
from trainer.loop.state import State
from trainer.loop.stop import StopRequest
from trainer.loop.train import train
from trainer.model.frozen import Frozen
from trainer.model.load import load as load_model
from trainer.plan import deepspeed_json
from trainer.plan import plan as plans
from trainer.plan.files import write_json
from trainer.plan.manifest import Manifest
from trainer.plan.plan import Plan
from trainer.report.closing import closing as report_of
from trainer.strategy.course import Course
from trainer.tasks.kinds import TASKS
from trainer.tasks.objective import Objective
from trainer.tasks.writing import Written

Say = Callable[[str], None]
IMPORTS = ranks.resident_memory()
"""Bytes of this process once all is imported, before there are rows and weights."""


def run(folder: Path, rows: Rows | None, stop: StopRequest, began: float) -> None:
    """Trains the recipe of a run folder on this rank; another process may be at work on its `rows`."""
    recipe = load(folder / "recipe.yaml")
    device = engines.device()
    ranks.connect(device.type, recipe.launch.patience)
    console = Console(ranks.console_stream(), metric=recipe.evaluate.metric) if ranks.is_main() else None
    say: Say = console.say if console else lambda text: None

    say("Turning rows into tokens ...")
    on_rank_zero(rows.finish if rows else lambda: None)
    tokenizer = tokenizers.load(recipe, folder)
    corpus = corpora.prepare(recipe, tokenizer, folder)
    newest, damaged = checkpoints.newest_whole(folder)
    for line in (*corpus.notes, *damaged):
        say(line)
    saved = checkpoints.read_state(newest) if newest else {}
    task = TASKS[recipe.task.kind](recipe, tokenizer, corpus)
    position, collate = saved.get("position"), task.collate("train")
    with closing(steps.training(recipe, tokenizer, corpus.train, folder, position, collate)) as windows:
        manifest = replace(corpus.manifest, epoch_steps=windows.steps_of_run(recipe.train))
        plan = _plan(recipe, folder, manifest, len(tokenizer), resuming=newest is not None)
        say(plan.describe())
        say("Loading the model ...")
        engine = engines.build(recipe, plan, device, _deepspeed(recipe, folder, plan, device))
        body = load_model(recipe, tokenizer, engine.loading(), task.labels)
        adapted = METHODS[recipe.adapter.kind](body, recipe, tokenizers.new_tokens(recipe, tokenizer))
        since = (course := Course(recipe, adapted.model)).enter(saved.get("phase", 0))
        resting = ranks.resident_memory()
        module = modules.build(recipe, plan, task, adapted, engine, say, since, None if newest else windows)
        state = _state(plan, newest, engine, say)
        modules.compare_forward(module, window := windows.window(state.step), engine, say)
        if recipe.train.checkpointing == "auto":
            _write_plan(folder, choose_checkpointing(recipe, plan, module, window, engine, resting, say))
        held_out = steps.held_out(recipe, tokenizer, {**corpus.held_out(), "train": corpus.train}, task.collate)
        asked = held_out.get("validation", held_out.get("train"))
        if state.resumed_from is None:
            _sample(folder, "before", samples(recipe.evaluate, engine, task, asked))
        summary = Summary(folder, began, device, recipe.evaluate.metric, imports=IMPORTS)
        phases = Phases(recipe, course, module, engine, plan.steps_per_epoch)
        _keep_frozen(recipe, phases, corpus, folder, window, say)
        callbacks = _callbacks(recipe, folder, engine, task, held_out.get("validation"), console, summary, phases)
        status, rate = "failed", None
        try:
            rate = train(recipe, state, engine, task, windows, callbacks, stop, phases.rate).median()
            if state.step >= state.steps:
                _take_best(folder, state, engine, phases, say)
                _test(recipe, engine, task, held_out.get("test"), state, callbacks)
                summary.adapter = result.save(recipe, folder, engine, adapted, task, module, tokenizer, window)
                _sample(folder, "after", samples(recipe.evaluate, engine, task, asked))
            status = "completed" if state.step >= state.steps else "stopped"
        finally:
            for callback in callbacks:
                callback.end(state)
            summary.write(state, status, rate)
    if status == "stopped":
        kept = "a checkpoint saved; the same command goes on" if state.saved_step else "nothing saved, as asked"
        raise Stopped(f"stopped at step {state.step} of {state.steps} with {kept}")
    if ranks.is_main():
        say(report_of(folder))


def _plan(recipe: Recipe, folder: Path, manifest: Manifest, vocabulary: int, *, resuming: bool) -> Plan:
    """The plan over the rows as they are; kept in plan.json."""
    own = plans.make(recipe, manifest, vocabulary=vocabulary, processes=ranks.world_size(), resuming=resuming)
    # Devices of other nodes may be larger: what rank 0 chose is what all do.
    plan: Plan = ranks.broadcast(own)
    if ranks.is_main():
        environment.write(folder, engines.device())
    _write_plan(folder, plan)
    return plan


def _write_plan(folder: Path, plan: Plan) -> None:
    if ranks.is_main():
        write_json(folder / "plan.json", plan.to_json())


def _deepspeed(recipe: Recipe, folder: Path, plan: Plan, device: torch.device) -> dict[str, Any] | None:
    """The DeepSpeed JSON of the run, kept in ds_config.json; None with plain torch."""
    if plan.engine != "deepspeed":
        return None
    settings = deepspeed_json.build(
        recipe,
        zero=plan.zero,
        micro=plan.batch.micro,
        ranks=plan.batch.ranks,
        cuda=device.type == "cuda",
        largest=plan.largest,
    )
    if ranks.is_main():
        write_json(folder / "ds_config.json", settings)
    return settings


def _state(plan: Plan, newest: Path | None, engine: Engine, say: Say) -> State:
    """A new state, or that of the newest checkpoint with its weights and optimizer loaded."""
    assert plan.steps is not None, "the steps of each epoch are counted, or max_steps is there"
    if newest is None:
        return State(steps=plan.steps)
    resume.load(newest, engine, say)
    saved = checkpoints.read_state(newest)
    known = {field.name for field in fields(State)}
    state = State(**{name: value for name, value in saved.items() if name in known})
    state.steps, state.stopping = plan.steps, False
    state.resumed_from = state.saved_step = state.step
    return state


def _callbacks(
    recipe: Recipe,
    folder: Path,
    engine: Engine,
    task: Objective,
    validation: Windows | None,
    console: Console | None,
    summary: Summary,
    phases: Phases,
) -> list[Callback]:
    """Views first, so that they are there when the first validation is told; the saver before the validator, and the
    phases last.
    """
    views: list[Callback] = [summary]
    if console is not None:
        views += [MetricsFile(folder), console]
        if recipe.log.tensorboard:
            views.append(TensorBoard(folder, dump(recipe), modules.rates_of(recipe, phases.module)))
    if recipe.log.profile is not None:
        views.append(Profile(recipe.log.profile, folder, engine.device, console.say if console else lambda text: None))
    if recipe.train.audit:
        may_rest = bool(getattr(phases.module, "leaves_unused", False))
        views.append(Audit(engine, console.say if console else lambda text: None, may_rest=may_rest))
    if recipe.schedule.kind == "range_test":
        views.append(RangeTest())
    saver = Checkpoint(recipe.checkpoint, folder, engine, views)
    phases.told = views
    if validation is None:
        return [*views, saver, phases]
    return [*views, Evaluate(recipe.evaluate, engine, task, validation, [*views, phases, saver]), saver, phases]


def _keep_frozen(
    recipe: Recipe, phases: Phases, corpus: corpora.Corpus, folder: Path, window: Window, say: Say
) -> None:
    """What frozen layers make is kept as `strategy.cache` says, anew in each phase."""
    kind: Cache = getattr(recipe.strategy, "cache", "none")
    if kind == "none" or corpus.train is None:
        return
    engine, lengths = phases.engine, np.asarray(corpus.train.lengths)
    kept = Frozen(kind, phases.module, lengths, folder, say, together=not engine.shards.whole)
    phases.renew = partial(kept.renew, window.batches[0], engine.evaluate)
    phases.renew()


def _take_best(folder: Path, state: State, engine: Engine, phases: Phases, say: Say) -> None:
    """Goes back to the weights of the best validation, where they are not the last, and are there."""
    if phases.recipe.checkpoint.save == "all" and state.best_step and state.best_step != state.step:
        best = of_step(folder, state.best_step)
        if (phase := checkpoints.read_state(best).get("phase", 0)) != state.phase:
            phases.go_to(state, phase)
        resume.load(best, engine, say)


def _test(
    recipe: Recipe, engine: Engine, task: Objective, rows: Windows | None, state: State, callbacks: list[Callback]
) -> None:
    """Measures the final model once on rows that nothing was chosen by, where there are any."""
    if rows is None:
        return
    metrics = evaluate(engine, task, rows, state, recipe.evaluate)
    for callback in callbacks:
        callback.tested(state, metrics)


def _sample(folder: Path, when: str, found: list[Written]) -> None:
    if ranks.is_main() and found:
        write_samples(folder, when, found)


def main(folder: Path, rows: Rows | None, began: float) -> int:
    """Runs, and leaves this rank's outcome where the launcher looks for it; the exit status.

    `began` is the monotonic second at which this process started.
    """
    stop = StopRequest()
    stop.listen()
    transformers_logging.disable_progress_bar()
    # DeepSpeed 0.19 calls collectives by names that torch 2.13 deprecates; the logs are for what the user can mend.
    warnings.filterwarnings("ignore", message=r".*torch\.distributed\..* is deprecated", category=FutureWarning)
    try:
        run(folder, rows, stop, began)
    except ShardtuneError as error:
        return _leave(folder, error)
    except (torch.OutOfMemoryError, MemoryError) as error:
        advice = "halve batch.micro (the result stays the same), set train.checkpointing: full, or a higher engine.zero"
        said = str(error).splitlines()[0] if str(error) else "host"
        return _leave(folder, OutOfMemoryError(f"memory ran out ({said}); {advice}"))
    except OSError as error:
        return _leave(folder, RunError(f"{error.filename or folder}: {error.strerror or error}"))
    # After an error the group may wait for a rank that is gone: the launcher ends it.
    ranks.disconnect()
    return 0


def _leave(folder: Path, error: ShardtuneError) -> int:
    """Hands an error to the launcher; in the log alone where the disk has no room for it."""
    print(error, file=sys.stderr)
    with suppress(OSError):
        outcome.write(folder, ranks.rank(), error)
    return error.status
