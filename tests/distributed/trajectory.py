"""A short run through the real loop on this rank; runs in the test process and in the pair's ranks."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import a_recipe
import torch
from distributed import steps

from trainer import ranks
from trainer.checkpoint import folder, resume, weights
from trainer.checkpoint.listing import of_step
from trainer.config.recipe import Recipe
from trainer.data.batches import Layout, Windows
from trainer.engine import build
from trainer.engine.engine import Engine
from trainer.loop.callback import Callback, StepMetrics
from trainer.loop.state import State
from trainer.loop.stop import StopRequest
from trainer.loop.train import train
from trainer.optim import schedule
from trainer.plan import deepspeed_json, moments
from trainer.plan import plan as plans
from trainer.plan.manifest import Manifest
from trainer.tasks import causal_lm

ROWS, GLOBAL, MICRO, CLIP = 64, 16, 4, 0.5
"""Four steps an epoch; four micro-batches a step on one rank, two on two."""


class Losses(Callback):
    """Keeps the loss and the gradient's norm of each step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float | None] = []

    def report(self, state: State, metrics: StepMetrics) -> None:
        self.losses.append(metrics.loss)
        self.norms.append(metrics.grad_norm)


def recipe(engine: dict[str, Any], dtype: str = "float32", **optimizer: Any) -> Recipe:
    """A run whose matrices decay, and whose gradients are clipped where they can be."""
    return a_recipe.recipe(
        model={"name": "-", "dtype": dtype},
        data={"packing": False, "max_length": 25},
        batch={"micro": MICRO, "global": GLOBAL},
        train={"clip": None if optimizer.get("in_backward") else CLIP, "max_steps": 20},
        optimizer={"lr": 3e-3, "weight_decay": 0.1, **optimizer},
        schedule={"kind": "cosine", "warmup": 2},
        log={"every": 1},
        engine=engine,
    )


def prepared(wanted: Recipe) -> Engine:
    """The engine of a recipe, as a run builds it, over the small model."""
    plan = plans.make(wanted, Manifest(ROWS, 0), processes=ranks.world_size())
    settings = None
    if plan.engine == "deepspeed":
        settings = deepspeed_json.build(
            wanted, zero=plan.zero, micro=plan.batch.micro, ranks=plan.batch.ranks, cuda=False
        )
    engine = build.build(wanted, plan, torch.device("cpu"), settings)
    dtype = getattr(torch, wanted.model.dtype)
    module = causal_lm.CausalLM(steps.model(packing=False, dtype=dtype), whole=engine.shards.whole)
    # So small a model has no weight whose moments would be kept in 8 bits.
    with patch.object(moments, "LEAST_8BIT", 1024):
        engine.prepare(module, wanted.optimizer)
    return engine


def trained(engine: Engine, wanted: Recipe, first: int, last: int) -> Losses:
    """Steps `first` to `last`, of 20."""
    layout = Layout(global_=GLOBAL, micro=MICRO, packing=False, micro_tokens=0, pad=0)
    windows = Windows(steps.random_rows(ROWS), layout, rank=ranks.rank(), ranks=ranks.world_size(), seed=0)
    kept = Losses()
    stop = _StopAt(last)

    def rate(state: State) -> float:
        return wanted.optimizer.lr * schedule.rate(wanted.schedule, state.step, state.steps)

    state, asked = State(step=first, steps=20), StopRequest()
    train(wanted, state, engine, causal_lm.NextToken(), windows, [kept, stop], asked, rate)
    return kept


class _StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def step_end(self, state: State) -> None:
        state.stopping = state.step >= self.step


def losses(engine: dict[str, Any], dtype: str = "float32", count: int = 10, **optimizer: Any) -> Losses:
    """The losses of the first steps."""
    wanted = recipe(engine, dtype, **optimizer)
    made = prepared(wanted)
    kept = trained(made, wanted, 0, count)
    made.release()
    return kept


def interrupted(engine: dict[str, Any], run: str, dtype: str = "float32", **optimizer: Any) -> None:
    """Five steps and a checkpoint."""
    wanted = recipe(engine, dtype, **optimizer)
    made = prepared(wanted)
    trained(made, wanted, 0, 5)
    folder.save(Path(run), made, {"step": 5})
    made.release()


def resumed(
    engine: dict[str, Any], run: str, dtype: str = "float32", **optimizer: Any
) -> tuple[list[float], list[str]]:
    """The losses of the five steps after it, and what was said."""
    wanted = recipe(engine, dtype, **optimizer)
    made = prepared(wanted)
    with torch.no_grad():
        for parameter in made.module.parameters():
            parameter.zero_()  # nothing of the new model may be left
    said: list[str] = []
    resume.load(of_step(Path(run), 5), made, said.append)
    kept = trained(made, wanted, 5, 10)
    made.release()
    return kept.losses, said


def back(engine: dict[str, Any], run: str) -> dict[str, list[float]]:
    """Steps 6 to 10, and again after going back to the checkpoint of step 5, as for the best of a run."""
    wanted = recipe(engine)
    made = prepared(wanted)
    trained(made, wanted, 0, 5)
    folder.save(Path(run), made, {"step": 5})
    first = trained(made, wanted, 5, 10).losses
    resume.load(of_step(Path(run), 5), made, print)
    again = trained(made, wanted, 5, 10).losses
    made.release()
    return {"first": first, "again": again}


class NoTokenizer:
    """A model's tokenizer is not what is looked at here."""

    def save_pretrained(self, path: Path) -> None:
        pass


def written(engine: dict[str, Any], target: str, dtype: str = "float32") -> dict[str, Any]:
    """Two steps, then the folder of the model; its weights, and how many values stood whole at each piece."""
    wanted = recipe(engine, dtype)
    made = prepared(wanted)
    trained(made, wanted, 0, 2)
    model = made.module.model
    whole: list[int] = []
    gather = made.gather

    def watched(names: Sequence[str]) -> Iterator[tuple[str, torch.Tensor]]:
        for piece in gather(names):
            whole.append(sum(parameter.numel() for parameter in model.parameters()))
            yield piece

    made.gather = watched
    weights.save_model(Path(target), made, model, NoTokenizer())
    with made.gathered():
        values = {name: tensor.detach().float().numpy().copy() for name, tensor in model.named_parameters()}
    made.release()
    return {"weights": values, "whole": max(whole)}
