"""The training loop."""

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence

import torch

from trainer import ranks
from trainer.config.recipe import Recipe
from trainer.data.batches import Steps, Window
from trainer.engine.engine import Engine
from trainer.errors import RunError
from trainer.loop.callback import Callback
from trainer.loop.meter import Meter, Sizes, sizes_of
from trainer.loop.state import State
from trainer.loop.stop import StopRequest
from trainer.loop.throughput import Throughput
from trainer.tasks.objective import LooksAhead, Objective


def train(
    recipe: Recipe,
    state: State,
    engine: Engine,
    task: Objective,
    windows: Steps,
    callbacks: Sequence[Callback],
    stop: StopRequest,
    rate: Callable[[State], float],
) -> Throughput:
    """Optimizer steps from `state.step` to `state.steps`, or to a stop; how fast they were.

    The whole window of a step is read before its first micro-batch, because each term of the loss is divided once, by
    its count over the step and all ranks: that makes the gradient independent of the split. `rate` tells the learning
    rate of a step.
    """
    meter = Meter(engine.device)
    for callback in callbacks:
        callback.start(state)
    meter.start()
    while state.step < state.steps and not state.stopping:
        began = time.monotonic()
        window = windows.window(state.step)
        asked = {" stop": float(stop.requested)}
        counts = ranks.all_reduce({**task.counts(window.batches), **sizes_of(window.batches), **asked})
        state.stopping = counts.pop(" stop") > 0
        sizes = Sizes.taken(counts)
        seed = _seed_of_step(recipe.train.seed, state.step)
        lr = rate(state)
        engine.begin(lr)
        loss = accumulate(engine, task, window, counts, seed)
        grad_norm = engine.step(lr)
        state.step += 1
        state.epoch, state.position = window.epoch, window.position
        state.tokens += int(sizes.tokens)
        meter.add(loss, sizes, time.monotonic() - began)
        if state.step % recipe.log.every == 0 or state.step == state.steps or state.stopping:
            metrics = meter.report(state, lr, grad_norm)
            for callback in callbacks:
                callback.report(state, metrics)
            if not math.isfinite(metrics.loss):
                raise RunError(
                    f"the loss is {metrics.loss} at step {state.step}; a lower optimizer.lr, a longer schedule.warmup "
                    "or train.precision: float32 may help"
                )
        with meter.pause():
            for callback in callbacks:
                callback.step_end(state)
    return meter.throughput


def accumulate(engine: Engine, task: Objective, window: Window, counts: Mapping[str, float], seed: int) -> torch.Tensor:
    """Adds the gradient of the step; this rank's share of its loss, still on the device. `seed` draws dropout.

    A term without any target in the whole step has the count 0 and the sum 0.
    """
    _seed(seed, engine.device)

    def begin(index: int) -> None:
        _seed(seed + index, engine.device)

    if isinstance(task, LooksAhead):
        window = task.ahead(engine, window, begin)
    factors = {name: weight / counts[name] if counts[name] else 0.0 for name, weight in task.weights.items()}
    loss = torch.zeros((), device=engine.device)
    for index, batch in enumerate(window.batches):
        if isinstance(task, LooksAhead):
            begin(index)
        terms = engine.forward_backward(batch, factors, last=index == len(window.batches) - 1)
        for name, term in terms.items():
            loss += factors[name] * term
    return loss


def _seed(seed: int, device: torch.device) -> None:
    """What torch.manual_seed does for the devices of a run; that asks every kind of device, for half a millisecond."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _seed_of_step(seed: int, step: int) -> int:
    """Seeds dropout by (seed, step, rank), so that a resumed run draws as the first one would have."""
    text = f"{seed} {step} {ranks.rank()}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest())
