"""Plain torch: one process, or one replica a process (DistributedDataParallel)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from trainer import ranks
from trainer.adapter.budget import Budget
from trainer.config.optimizer import Optimizer
from trainer.data.batches import Batch
from trainer.engine import copies, universal
from trainer.engine.engine import Shards, Terms
from trainer.model import quantize
from trainer.optim import clip, masters, optimizers
from trainer.optim.groups import NO_PHASES
from trainer.optim.in_backward import InBackward, equalise
from trainer.optim.stepper import moments
from trainer.strategy.course import Since

_FILE = "torch.pt"


def convert(folder: Path, target: Path) -> None:
    """Brings what a `TorchEngine` saved into the universal form."""
    saved = torch.load(folder / _FILE, map_location="cpu", weights_only=True, mmap=True)
    for index, name in enumerate(saved["names"]):
        state = saved["optimizer"]["state"][index]
        universal.write(target, name, masters.value(saved["module"][name], state), state)


class TorchEngine:
    """The whole model on each process; gradients are summed over processes after the last micro-batch."""

    def __init__(
        self, device: torch.device, clip: float | None, seed: int = 0, clip_value: float | None = None
    ) -> None:
        """`clip`: the largest norm of a gradient, `clip_value` the largest of its values."""
        self.device = device
        self.clip = clip
        self.clip_value = clip_value
        self.seed = seed
        self.budget: Budget | None = None

    @property
    def shards(self) -> Shards:
        """As the protocol says."""
        return Shards("torch", 0, ranks.world_size())

    def loading(self) -> AbstractContextManager[None]:
        """Nothing special: each process reads the whole model."""
        return nullcontext()

    def prepare(self, module: nn.Module, settings: Optimizer, since: Since = NO_PHASES) -> None:
        """Moves the module to the device, and makes its optimizer."""
        self.module = module.to(self.device)
        self.fixed = quantize.entries(module)
        self._optimize(settings, since)

    def rebuild(self, settings: Optimizer, since: Since) -> None:
        """As the protocol says: states of weights move to the new optimizer."""
        states, before = self.optimizer.state, self.in_backward
        if before:
            before.detach()
        # The hooks of a replica go with it.
        del self.replica
        self._optimize(settings, since)
        for weight in self.weights:
            if weight in states:
                self.optimizer.state[weight] = states[weight]
        if before and before.norm is not None and self.in_backward:
            self.in_backward.clip_next(before.norm)

    def _optimize(self, settings: Optimizer, since: Since) -> None:
        """What depends on which weights train."""
        self.optimizer = optimizers.build(settings, self.module, self.seed, since)
        self.optimizer.frees = True
        self.optimizer.largest = self.clip_value
        self.scales = [float(group["scale"]) for group in self.optimizer.param_groups]
        self.weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        self.in_backward = InBackward(self.optimizer, self.clip) if settings.in_backward else None
        self.replica: nn.Module = self.module
        if ranks.world_size() > 1:
            if self.in_backward:
                equalise(self.module)
            else:
                self.replica = DistributedDataParallel(
                    self.module,
                    gradient_as_bucket_view=True,
                    broadcast_buffers=False,
                    # It costs a walk over the graph of each step.
                    find_unused_parameters=bool(getattr(self.module, "leaves_unused", False)),
                )

    def begin(self, lr: float) -> None:
        """As the protocol says."""
        for group, scale in zip(self.optimizer.param_groups, self.scales, strict=True):
            group["lr"] = lr * scale

    @torch.no_grad()
    def look(self, batch: Batch) -> Terms:
        """As the protocol says."""
        self.module.train()
        seen: Terms = self.module(batch.to(self.device))
        return seen

    def forward_backward(self, batch: Batch, factors: Mapping[str, float], last: bool) -> Terms:
        """As the protocol says. DDP averages over ranks, hence the factor `world_size`."""
        self.replica.train()
        if self.in_backward:
            self.in_backward.armed = last
        with self._wait_for_last(last):
            terms = self.replica(batch.to(self.device))
            loss = sum(factors[name] * term for name, term in terms.items())
            averaged = isinstance(self.replica, DistributedDataParallel)
            (loss * ranks.world_size() if averaged else loss).backward()
        return {name: term.detach() for name, term in terms.items()}

    def _wait_for_last(self, last: bool) -> AbstractContextManager[None]:
        if isinstance(self.replica, DistributedDataParallel) and not last:
            return self.replica.no_sync()
        return nullcontext()

    def step(self, lr: float) -> float | None:
        """As the protocol says; with steps in the backward pass, at the rate of `begin`, only what is left."""
        if self.in_backward:
            return float(self.in_backward.finish())
        self.begin(lr)
        if self.budget:
            self.budget.before_step()
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        norm = clip.norm(gradients, self.optimizer.scratch)
        self.optimizer.divisor = clip.divisor(norm, self.clip)
        self.optimizer.step()
        if self.budget:
            self.budget.after_step()
        return float(norm)

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> Terms:
        """As the protocol says."""
        self.module.eval()
        terms: Terms = self.module(batch.to(self.device))
        return terms

    def watched(self) -> Iterator[tuple[str, bool, list[torch.Tensor]]]:
        """As the protocol says."""
        trained = set(self.weights)
        for name, weight in self.module.named_parameters():
            if weight not in trained:
                yield name, False, [weight]
                continue
            state = self.optimizer.state.get(weight, {})
            lossy = weight.dtype != torch.float32 and not {"master", "compensation"} & state.keys()
            moment = [*moments(state).values()][:1] if lossy else []
            yield name, True, [masters.value(weight, state), *moment]

    def save_state(self, folder: Path) -> None:
        """Replicas are equal: rank 0 writes one file."""
        if ranks.is_main():
            torch.save(self._state(), folder / _FILE)

    def copy_state(self) -> Callable[[Path], None] | None:
        """As the protocol says: on rank 0, where half of the memory that is free takes it."""
        state = self._state() if ranks.is_main() else {}
        fits = copies.size(state) <= ranks.available_memory() // 2
        if not ranks.broadcast(fits):
            return None
        copied = copies.copy(state)
        return lambda folder: torch.save(copied, folder / _FILE)

    def _state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        names = {parameter: name for name, parameter in self.module.named_parameters()}
        return {
            "module": {name: one for name, one in self.module.state_dict().items() if name not in self.fixed},
            "optimizer": self.optimizer.state_dict(),
            "names": [names[weight] for weight in self.weights],
            "norm": self.in_backward.norm if self.in_backward else None,
        }

    def load_state(self, folder: Path) -> None:
        """As the protocol says; the number of replicas does not matter."""
        saved = torch.load(folder / _FILE, map_location=self.device, weights_only=True)
        missing, unknown = self.module.load_state_dict(saved["module"], strict=False)
        assert not unknown and self.fixed.issuperset(missing), "a checkpoint holds all but a quantized base"
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.in_backward and saved.get("norm") is not None:
            self.in_backward.clip_next(saved["norm"])

    def load_universal(self, folder: Path) -> None:
        """As the protocol says."""
        names = {parameter: name for name, parameter in self.module.named_parameters()}
        universal.load(folder, [(names[weight], weight) for weight in self.weights], self.optimizer)

    def gather(self, names: Sequence[str]) -> Iterator[tuple[str, torch.Tensor]]:
        """Every process holds every tensor already."""
        state = self.module.state_dict()
        for name in names:
            yield name, state[name].cpu()

    def gathered(self) -> AbstractContextManager[None]:
        """Nothing to do: every process holds every weight."""
        return nullcontext()

    def release(self) -> None:
        """As the protocol says."""
        del self.module, self.replica, self.optimizer, self.in_backward, self.weights
