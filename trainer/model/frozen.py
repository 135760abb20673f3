"""What frozen layers make of each training example, kept after it was computed once.

One file a node holds, behind a flag of each example, the input [tokens, H] of the lowest layer that trains. It is open
on all processes of the node and has no name any more, so that nothing stays behind, however they end. Where all rows
of a micro-batch are there, the layers below are left out. Dropout is off in them, or there would be nothing to keep.
"""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from trainer import ranks
from trainer.config.strategy import Cache
from trainer.data.batches import Batch
from trainer.parameter import parameter
from trainer.strategy.layers import is_below

Say = Callable[[str], None]
Evaluate = Callable[[Batch], Mapping[str, Any]]
_NAME = ".frozen-"
_PAGE = 4096
_MEMORY = Path("/dev/shm")
AGREES = 1e-5
"""How much a loss from kept states may differ from that of the whole model, as rows are laid out otherwise."""


class Frozen:
    """Keeps and hands out what enters the lowest layer that trains."""

    def __init__(
        self, kind: Cache, module: Any, lengths: np.ndarray, folder: Path, say: Say, *, together: bool = False
    ) -> None:
        """`module` holds the body in `model`; `lengths` are those of the training examples; `together`: whether all
        processes leave layers out at the same time, because they share weights out.
        """
        self.kind, self.module, self.say, self.together = kind, module, say, together
        self.folder = _MEMORY if kind == "memory" and _MEMORY.is_dir() else folder
        self.lengths = lengths
        self.ends = np.cumsum(lengths, dtype=np.int64)
        self._undo: list[Callable[[], None]] = []
        self._clear()

    def _clear(self) -> None:
        self._flags: Any = None
        self._values: Any = None
        self._batch: Batch | None = None
        self._seen: tuple[torch.dtype, int] | None = None
        self._tuples: dict[int, int] = {}
        self._rows: np.ndarray = np.zeros(0, dtype=np.int64)
        self._hit = self._always = False
        self._quiet: list[nn.Module] = []

    def renew(self, batch: Batch, evaluate: Evaluate) -> None:
        """After weights began to train or to rest: forgets all, and keeps what the layers make that rest now.

        All processes call it with a micro-batch of their own, on which kept states are held against the whole model.
        """
        self._detach()
        layers = _resting(self.module.model)
        if not layers:
            self.say("strategy.cache: no layers rest below all that trains; nothing is kept.")
            return
        self._attach(layers)
        self._always = True
        plain = evaluate(batch)
        problem = self._room()
        if problem is None and (gap := self._gap(plain, batch, evaluate)) > AGREES:
            problem = f"this model would differ by {gap:.1e}"
        if problem is not None:
            self.say(f"strategy.cache: {problem}; nothing is kept.")
            self._detach()
            return
        self._always = False
        self._flags.zero_()
        ranks.barrier()
        what, size = f"what {len(layers) - 1} frozen layers make", self._values.nbytes / 2**20
        self.say(f"strategy.cache: {what} is kept in {self.kind} ({size:,.0f} MiB).")

    def _detach(self) -> None:
        """The model is as it was: no layer is left out, and dropout is on again."""
        for undo in self._undo:
            undo()
        self._undo.clear()
        self._clear()

    def _gap(self, plain: Mapping[str, Any], batch: Batch, evaluate: Evaluate) -> float:
        """The largest difference of a loss to that of the whole model: relative, over all processes."""
        evaluate(batch)
        again = evaluate(batch)
        terms = [name for name, one in plain.items() if isinstance(one, torch.Tensor) and one.dim() == 0]
        gaps = [abs(float(again[name]) - float(plain[name])) / max(1e-6, abs(float(plain[name]))) for name in terms]
        was_hit = self._hit or not len(self._rows)
        return max(ranks.all_gather(max(gaps, default=0.0) if was_hit else float("inf")))

    def _room(self) -> str | None:
        """Makes the file; what is wrong where it cannot be made, alike on all processes."""
        seen = self._seen
        if min(ranks.all_gather(float(seen is not None))) == 0.0:
            return "this model calls its layers in another way"
        assert seen is not None, "asked above"
        dtype, width = seen
        start = -(-len(self.lengths) // _PAGE) * _PAGE
        size = start + int(self.ends[-1]) * width * dtype.itemsize
        # The run folder may be shared by nodes, each of which has a file of its own.
        path = self.folder / f"{_NAME}{platform.node()}-{ranks.broadcast(os.getpid())}"
        if self.kind == "disk" and ranks.local_rank() == 0:
            # A process that was killed in the moment between name and no name left one.
            for left in self.folder.glob(f"{_NAME}{platform.node()}-*"):
                left.unlink(missing_ok=True)
        problem = _reserve(path, size) if ranks.local_rank() == 0 else None
        problems = [one for one in ranks.broadcast(ranks.gather(problem)) if one]
        if not problems:
            whole = torch.from_file(str(path), shared=True, size=size, dtype=torch.uint8)
            self._flags = whole[: len(self.lengths)]
            self._values = whole[start:].view(dtype).view(-1, width)
        ranks.barrier()
        if ranks.local_rank() == 0:
            path.unlink(missing_ok=True)
        return problems[0] if problems else None

    def _attach(self, layers: Sequence[nn.Module]) -> None:
        """Hooks that stay until the next phase; the last of `layers` is the lowest that trains."""
        *below, first = layers
        inside = {id(one) for layer in layers for one in layer.modules()}
        self._quiet = [one for layer in below for one in layer.modules()]
        drops = [one for one in self.module.model.modules() if isinstance(one, nn.Dropout) and id(one) not in inside]
        hooks = [
            self.module.register_forward_pre_hook(self._begin),
            first.register_forward_pre_hook(self._enter, with_kwargs=True),
            *(drop.register_forward_pre_hook(self._dropped) for drop in drops),
        ]
        self._undo += [hook.remove for hook in hooks]
        for layer in below:
            own = layer.__dict__.get("forward")
            layer.forward = partial(self._pass, id(layer), layer.forward)
            self._undo.append(partial(_restore, layer, own))

    def _begin(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Before a forward pass: whether its examples are there."""
        batch: Batch = inputs[0]
        self._batch = batch if (module.training or self._always) and self._knows(batch) else None
        self._rows = np.array(batch.rows if self._batch is not None else (), dtype=np.int64)
        for one in self._quiet if module.training else ():
            one.training = False
        there = self._flags is not None and self._batch is not None
        self._hit = there and bool(self._flags[torch.from_numpy(self._rows)].all())
        if self.together:
            self._hit = min(ranks.all_gather(float(self._hit))) == 1.0

    def _knows(self, batch: Batch) -> bool:
        """Whether it is made of whole training examples, and none is a spare one."""
        if not batch.rows or len(batch.rows) != batch.examples:
            return False
        mask = batch.attention_mask
        own = list(batch.segments or ()) if mask is None else mask.sum(dim=1).tolist()
        return bool(own == self.lengths[list(batch.rows)].tolist())

    def _dropped(self, module: nn.Module, inputs: Any) -> None:
        """Dropout that comes before the layers rests too."""
        if self._batch is not None and self._always and self._seen is None:
            self._quiet.append(module)

    def _pass(self, layer: int, forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
        """A layer that rests: left out where all is there; some families give a tuple."""
        if not self._hit:
            made = forward(*inputs, **named)
            self._tuples[layer] = len(made) if isinstance(made, tuple) else 0
            return made
        hidden = inputs[0] if inputs else named["hidden_states"]
        count = self._tuples[layer]
        return (hidden, *[None] * (count - 1)) if count else hidden

    def _enter(self, layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Before the lowest layer that trains: what enters it, to keep or from what is kept."""
        if self._batch is None:
            return None
        hidden = inputs[0] if inputs else named.get("hidden_states")
        if not isinstance(hidden, torch.Tensor):
            return None
        self._seen = (hidden.dtype, hidden.shape[-1])
        if self._values is None:
            return None
        if not self._hit:
            self._keep(hidden.detach())
            return None
        hidden = self._kept(hidden)
        return ((hidden, *inputs[1:]), named) if inputs else ((), {**named, "hidden_states": hidden})

    def _tokens(self, shape: torch.Size, device: torch.device) -> torch.Tensor:
        """Which positions [B, S] hold tokens of examples."""
        assert self._batch is not None, "asked before"
        if self._batch.attention_mask is not None:
            return self._batch.attention_mask.bool().to(device)
        there = torch.zeros(shape[:2], dtype=torch.bool, device=device)
        there[0, : sum(self._batch.segments or ())] = True
        return there

    def _places(self) -> torch.Tensor:
        """Where in the file the tokens of the batch stand."""
        starts = self.ends[self._rows] - self.lengths[self._rows]
        parts = [np.arange(start, start + self.lengths[row]) for start, row in zip(starts, self._rows, strict=True)]
        return torch.from_numpy(np.concatenate(parts))

    def _keep(self, hidden: torch.Tensor) -> None:
        self._values[self._places()] = hidden[self._tokens(hidden.shape, hidden.device)].to("cpu")
        self._flags[torch.from_numpy(self._rows)] = 1

    def _kept(self, hidden: torch.Tensor) -> torch.Tensor:
        found = torch.zeros_like(hidden)
        found[self._tokens(hidden.shape, hidden.device)] = self._values[self._places()].to(hidden.device)
        return found


def _resting(model: nn.Module) -> list[nn.Module]:
    """The layers that rest below all that trains, and behind them the lowest other one; nothing where there are none.

    Of models with one stack of layers.
    """
    listed = [(parameter(name, ()), weight.requires_grad) for name, weight in model.named_parameters()]
    stacks = {one.stack for one, _ in listed if one.depth is not None}
    outside = [one for one, trains in listed if trains and one.depth is None]
    if len(stacks) != 1 or any(is_below(one) or one.part not in ("head", "pooler", "norms") for one in outside):
        return []
    (stack,) = stacks
    layers = model.get_submodule(stack or "")
    trained = [one.depth for one, trains in listed if trains and one.depth is not None]
    lowest = min([depth for depth in trained if depth is not None], default=len(layers) - 1)  # type: ignore[arg-type]
    return [layers[number] for number in range(lowest + 1)] if lowest else []  # type: ignore[index]


def _reserve(path: Path, size: int) -> str | None:
    """Takes the room of the file at once, so that no write fails later."""
    free = os.statvfs(path.parent)
    half = free.f_bavail * free.f_frsize // 2
    needed = f"{size / 2**20:,.0f} MiB are needed in {path.parent}"
    if size > half:
        return f"{needed}, and half of what is free is {half / 2**20:,.0f} MiB"
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        path.unlink(missing_ok=True)
        return f"{needed}: {error.strerror}"
    return None


def _restore(layer: nn.Module, own: Any) -> None:
    if own is None:
        del layer.forward
    else:
        layer.forward = own
