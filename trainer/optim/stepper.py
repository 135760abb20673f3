"""The optimizer of torch's interface that all of ours are: whatever rule weights follow, and whatever keeps them."""

from collections.abc import Mapping
from typing import Any

import torch

from trainer.config.optimizer import Optimizer
from trainer.optim import eight_bit, masters, paged
from trainer.optim.elementwise import ELEMENTWISE, MOMENTS, Elementwise
from trainer.optim.elementwise import Chunk as Values
from trainer.optim.masters import Chunk, Master
from trainer.optim.matrixwise import MATRIXWISE
from trainer.optim.pieces import Flat, Piece, Scratch, chunks, room
from trainer.optim.rounding import Noise, round_into

EIGHT_BIT = "8bit"
"""The form of groups whose moments are kept in 8 bits."""
_BESIDE = ("step", "master", "compensation")
"""What is no moment in a weight's state."""


def moments(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """What a rule keeps of one weight, in its order; empty where nothing is, or no step was made."""
    return {name: kept for name, kept in state.items() if name not in _BESIDE and isinstance(kept, torch.Tensor)}


class Stepper(torch.optim.Optimizer):
    """Steps the weights of its groups by the rule of each group's `form`; of what looks at each value alone, chunk by
    chunk, so that nothing of the size of the model is made on the way.

    A weight's state: step, what the rule keeps, and master or compensation where the master wants them.
    """

    def __init__(self, groups: list[dict[str, Any]], settings: Optimizer, seed: int) -> None:
        self.kind = settings.kind
        self.paged = settings.paged
        self.master = settings.master
        self.noise = Noise(seed)
        self.scratch = Scratch()
        self.divisor: torch.Tensor | None = None
        """What each gradient is divided by inside the kernel, a float32 scalar; None: nothing."""
        self.largest: float | None = None
        """Values of a gradient are cut to it on either side; None: they are not."""
        self.frees = False
        """Whether a gradient is let go as soon as its weight was stepped."""
        constants = {"betas": settings.decays, "eps": settings.eps, "weight_decay": settings.weight_decay}
        constants["momentum"] = settings.momentum_or_default
        projected = {"rank": settings.galore.rank, "every": settings.galore.every, "scale_back": settings.galore.scale}
        constants |= projected if settings.kind == "galore" else {}
        super().__init__(groups, {"lr": settings.lr, **constants})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of every weight that has a gradient."""
        assert closure is None, "the loop makes the gradients"
        for number, group in enumerate(self.param_groups):
            self.step_weights(group, [weight for weight in group["params"] if weight.grad is not None], number)

    @torch.no_grad()
    def step_weights(self, group: dict[str, Any], weights: list[torch.Tensor], place: int) -> None:
        """One step of some weights of a group; `place` tells them apart from others of the same step."""
        for weight in weights:
            if "step" not in self.state[weight]:
                self.begin(weight, group)
            self.state[weight]["step"] += 1
        for dtype in dict.fromkeys(weight.dtype for weight in weights):
            alike = [weight for weight in weights if weight.dtype == dtype]
            for number, pieces in enumerate(self._cut(group, alike)):
                self._step_chunk(group, [(piece, self.state[piece.weight]) for piece in pieces], (place, number))
                if self.frees:
                    for piece in pieces:
                        piece.weight.grad = None if piece.is_last else piece.weight.grad

    def _cut(self, group: dict[str, Any], weights: list[torch.Tensor]) -> list[list[Piece]]:
        """What is stepped together."""
        if group["form"] in MATRIXWISE:
            return [[Piece(weight, 0, weight.numel())] for weight in weights]
        # What is stepped in place needs no room of its own.
        bare = masters.of_weight(weights[0], self.master) is masters.MASTERS["none"]
        return list(chunks(weights, sum(map(torch.numel, weights)) if bare else room(weights[0].device)))

    def begin(self, weight: torch.Tensor, group: Mapping[str, Any], value: torch.Tensor | None = None) -> None:
        """A fresh state of a weight, whose value may be known with more bits than it holds."""
        assert weight.is_contiguous(), "pieces of a weight are views of it"
        state, master = self.state[weight], masters.of_weight(weight, self.master)
        state["step"] = torch.zeros(())
        if group["form"] in MATRIXWISE:
            MATRIXWISE[group["form"]].begin(weight, state, group)
        elif group["form"] == EIGHT_BIT:
            eight_bit.begin(weight, state, self._zeros)
        else:
            rule, dtype = ELEMENTWISE[group["form"]], master.moments(weight)
            rounded = master in (masters.MASTERS["kahan"], masters.MASTERS["stochastic"])
            if rule.wide and (self.paged or not rounded):
                dtype = torch.float32
            if self.kind == "adamw_8bit" and master is not masters.MASTERS["none"]:
                dtype = torch.float32
            state.update({name: self._zeros(weight, dtype) for name in rule.moments})
        master.begin(weight, state, weight if value is None else value)

    def _zeros(self, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if self.paged:
            return paged.zeros(weight, dtype)
        return torch.zeros_like(weight, dtype=dtype, memory_format=torch.contiguous_format)

    def _step_chunk(self, group: dict[str, Any], chunk: Chunk, place: tuple[int, ...]) -> None:
        first = chunk[0][0].weight
        master = masters.of_weight(first, self.master)
        taken = master.take(chunk, self.scratch)
        values = taken[1] if isinstance(taken, tuple) else taken
        gradients = [piece.of(_gradient(piece.weight)) for piece, _ in chunk]
        if gradients[0].dtype != values[0].dtype:
            gradients = self.scratch.filled("gradients", gradients)[1]
        if self.largest is not None:
            torch._foreach_clamp_min_(gradients, -self.largest)
            torch._foreach_clamp_max_(gradients, self.largest)
        noise = self._noise(chunk, place) if self._rounds(master, group["form"]) else None
        if group["form"] in ELEMENTWISE:
            self._step_values(group, chunk, values, gradients, noise)
        else:
            if self.divisor is not None:
                torch._foreach_div_(gradients, self.divisor)
            for (piece, state), value, gradient in zip(chunk, values, gradients, strict=True):
                if group["form"] == EIGHT_BIT:
                    eight_bit.update(value, gradient, state, piece.first, piece.last, group)
                else:
                    _step_matrix(group, value.view(piece.weight.shape), gradient.view(piece.weight.shape), state)
        master.put(chunk, taken, self.scratch, noise)

    def _step_values(
        self,
        group: dict[str, Any],
        chunk: Chunk,
        values: list[torch.Tensor],
        gradients: list[torch.Tensor],
        noise: torch.Tensor | None,
    ) -> None:
        """The rule over the pieces of a chunk, whose moments may be kept in fewer bits than the values."""
        rule: Elementwise = ELEMENTWISE[group["form"]]
        kept = {
            name: [paged.part(state[name], piece.first, piece.last) for piece, state in chunk] for name in rule.moments
        }
        wide: dict[str, Flat] = {}
        if rule.moments and kept[rule.moments[0]][0].dtype == torch.bfloat16 != values[0].dtype:
            wide = {name: self.scratch.filled(name, pieces) for name, pieces in kept.items()}
        held = [wide[name][1] if wide else kept[name] for name in rule.moments]
        steps = [state["step"].to(values[0].device) for _, state in chunk]
        rule.update(Values(values, gradients, held, steps, self.divisor), group)
        for name, flat in wide.items():
            assert noise is not None, "moments in fewer bits are rounded stochastically"
            round_into(kept[name], flat, noise)

    def _rounds(self, master: Master, form: str) -> bool:
        """Whether a chunk needs random bits: for its weights, or for moments of few bits beside them."""
        few = self.kind != "adamw_8bit" and form in ELEMENTWISE and bool(ELEMENTWISE[form].moments)
        return master is masters.MASTERS["stochastic"] or (few and master is masters.MASTERS["kahan"])

    def _noise(self, chunk: Chunk, place: tuple[int, ...]) -> torch.Tensor:
        count = sum(piece.last - piece.first for piece, _ in chunk)
        piece, state = chunk[0]
        return self.noise.window(int(state["step"]), (*place, piece.first), count, piece.weight.device)

    def put_whole(self, weight: torch.Tensor, group: Mapping[str, Any], whole: Mapping[str, torch.Tensor]) -> None:
        """Takes a value, Adam's moments and the count of steps from whole float32 tensors."""
        value = whole["fp32"].to(weight.device).view(weight.shape)
        with torch.no_grad():
            weight.copy_(value)
        self.state[weight].clear()
        self.begin(weight, group, value)
        self.state[weight]["step"] = whole["step"].to(torch.float32).reshape(()).clone()
        for name in MOMENTS:
            eight_bit.put_moment(self.state[weight], name, whole[name])

    def complete(self, weight: torch.Tensor) -> None:
        """Brings a state that others filled with value and moments alone into the form that is stepped here."""
        state, master = self.state[weight], masters.of_weight(weight, self.master)
        master.begin(weight, state, weight)
        for name in MOMENTS:
            state[name] = state[name].to(master.moments(weight))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What `state_dict` gave; torch's own would turn every tensor into the type of its weight."""
        super().load_state_dict({**state_dict, "state": {}})
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        weights = [weight for group in self.param_groups for weight in group["params"]]
        self.state.clear()
        for number, weight in zip(numbers, weights, strict=True):
            for name, kept in state_dict["state"].get(number, {}).items():
                tensor = torch.as_tensor(kept).detach()
                place = torch.device("cpu") if name == "step" else weight.device
                pages = self.paged and name in MOMENTS
                self.state[weight][name] = paged.put(tensor, weight) if pages else tensor.to(place, copy=True)


def _gradient(weight: torch.Tensor) -> torch.Tensor:
    assert weight.grad is not None, "weights without a gradient are not stepped"
    return weight.grad


def _step_matrix(group: dict[str, Any], value: torch.Tensor, gradient: torch.Tensor, state: dict[str, Any]) -> None:
    """One matrix in float32, whatever it is kept in."""
    exact = value.float()
    MATRIXWISE[group["form"]].update(exact, gradient.float(), state, group)
    if exact is not value:
        value.copy_(exact)
