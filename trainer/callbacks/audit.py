"""Whether what is said to train trains, and all else stays as it is, bit by bit: looked at in the first steps."""

from collections.abc import Callable, Mapping, Sequence

import torch

from trainer import ranks
from trainer.engine.engine import Engine
from trainer.errors import RunError
from trainer.loop.callback import Callback
from trainer.loop.state import State

PATIENCE = 20
"""Steps in which a weight may stay as it is: half of LoRA has no gradient at first, a rare task may have no row."""
SHOWN = 5
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Audit(Callback):
    """Ends a run that trains what it should not, or does not train what it should."""

    def __init__(self, engine: Engine, say: Callable[[str], None], *, may_rest: bool = False) -> None:
        """`may_rest`: whether the model has weights that no loss depends on, so that they are told and no fault."""
        self.engine, self.say, self.may_rest = engine, say, may_rest
        self._sums: dict[str, int] = {}
        self._resting: list[str] = []
        self._frozen: list[str] = []
        self._steps = 0

    def start(self, state: State) -> None:
        """Before the first step, after a resume."""
        held = {name: (trains, _sum(tensors)) for name, trains, tensors in self.engine.watched()}
        self._sums = {name: total for name, (_, total) in held.items()}
        self._resting = [name for name, (trains, _) in held.items() if trains]
        self._frozen = [name for name, (trains, _) in held.items() if not trains]

    def entered(self, state: State, phase: str, trained: str, rates: Mapping[str, float]) -> None:
        """Each phase is looked at anew."""
        self._steps = 0
        self.start(state)

    def step_end(self, state: State) -> None:
        """Until all has moved that trains; RunError where something else has, or that takes too long."""
        wanted = {*self._resting, *self._frozen}
        if not wanted:
            return
        self._steps += 1
        moved = {
            name: float(_sum(tensors) != self._sums[name])
            for name, _, tensors in self.engine.watched()
            if name in wanted
        }
        everywhere = {name for name, count in ranks.all_reduce(moved).items() if count}
        if changed := [name for name in self._frozen if name in everywhere]:
            raise RunError(f"{_named(changed)} should rest and changed in step {state.step}; {_BROKEN}")
        self._frozen = []
        self._resting = [name for name in self._resting if name not in everywhere]
        if self._resting and (self._steps == PATIENCE or state.step == state.steps):
            self._tell()

    def _tell(self) -> None:
        message = f"{_named(self._resting)} should train and did not change in {self._steps} steps"
        may_wait = self.may_rest or self._steps < PATIENCE or all("expert" in name for name in self._resting)
        if not may_wait:
            raise RunError(f"{message}: nothing that is learned depends on it; freeze it by `strategy`, or {_OFF}")
        self.say(f"{message}.")
        self._resting = []


_OFF = "set train.audit: false"
_BROKEN = f"that is a fault of the engine or of the model's own code; please report it, or {_OFF}"


def _sum(tensors: Sequence[torch.Tensor]) -> int:
    """The sum of all bits, read as whole numbers; none changes without it but by the rarest chance."""
    total = 0
    for tensor in tensors:
        flat = tensor.detach().reshape(-1)
        total += int(flat.view(_BITS[flat.element_size()]).sum(dtype=torch.int64))
    return total


def _named(names: Sequence[str]) -> str:
    """Some names, and how many more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
