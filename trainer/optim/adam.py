"""Adam by torch's fused kernel, chunk by chunk, whatever weights and moments are kept in."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from trainer.config.optimizer import Optimizer
from trainer.optim import eight_bit, masters
from trainer.optim.masters import Chunk, Master
from trainer.optim.pieces import Flat, Scratch, chunks, room
from trainer.optim.rounding import Noise, round_into

KERNELS: dict[str, Callable[..., None]] = {
    "adamw": torch._fused_adamw_,
    "adam": torch._fused_adam_,
    "adamw_8bit": torch._fused_adamw_,
}
"""By `optimizer.kind`. adamw_8bit keeps some moments in 32 bits, which are stepped by this kernel."""
MOMENTS = ("exp_avg", "exp_avg_sq")


class Adam(torch.optim.Optimizer):
    """Steps the weights of its groups; nothing of the size of the model is made on the way.

    A weight's state: step, exp_avg, exp_avg_sq, and master or compensation where the master wants them.
    """

    def __init__(self, groups: list[dict[str, Any]], settings: Optimizer, seed: int) -> None:
        self.kind = settings.kind
        self.kernel = KERNELS[settings.kind]
        self.master = settings.master
        self.noise = Noise(seed)
        self.scratch = Scratch()
        self.divisor: torch.Tensor | None = None
        """What each gradient is divided by inside the kernel, a float32 scalar; None: nothing."""
        self.frees = False
        """Whether a gradient is let go as soon as its weight was stepped."""
        constants = {"betas": settings.betas, "eps": settings.eps, "weight_decay": settings.weight_decay}
        super().__init__(groups, {"lr": settings.lr, **constants, "eight_bit": False})

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
            if "exp_avg" not in self.state[weight]:
                self.begin(weight, group)
            self.state[weight]["step"] += 1
        for dtype in dict.fromkeys(weight.dtype for weight in weights):
            alike = [weight for weight in weights if weight.dtype == dtype]
            # What is stepped in place needs no room of its own.
            bare = masters.of_weight(alike[0], self.master) is masters.MASTERS["none"]
            size = sum(weight.numel() for weight in alike) if bare else room(alike[0].device)
            for number, pieces in enumerate(chunks(alike, size)):
                self._step_chunk(group, [(piece, self.state[piece.weight]) for piece in pieces], (place, number))
                if self.frees:
                    for piece in pieces:
                        piece.weight.grad = None if piece.is_last else piece.weight.grad

    def begin(self, weight: torch.Tensor, group: Mapping[str, Any], value: torch.Tensor | None = None) -> None:
        """A fresh state of a weight, whose value may be known with more bits than it holds."""
        assert weight.is_contiguous(), "pieces of a weight are views of it"
        state, master = self.state[weight], masters.of_weight(weight, self.master)
        state["step"] = torch.zeros(())
        if group["eight_bit"]:
            eight_bit.begin(weight, state)
        else:
            dtype = master.moments(weight)
            if self.kind == "adamw_8bit" and master is not masters.MASTERS["none"]:
                dtype = torch.float32
            state.update({name: torch.zeros_like(weight, dtype=dtype) for name in MOMENTS})
        master.begin(weight, state, weight if value is None else value)

    def _step_chunk(self, group: dict[str, Any], chunk: Chunk, place: tuple[int, ...]) -> None:
        first = chunk[0][0].weight
        master = masters.of_weight(first, self.master)
        taken = master.take(chunk, self.scratch)
        values = taken[1] if isinstance(taken, tuple) else taken
        gradients = [piece.of(_gradient(piece.weight)) for piece, _ in chunk]
        if gradients[0].dtype != values[0].dtype:
            gradients = self.scratch.filled("gradients", gradients)[1]
        noise = self._noise(chunk, place) if self._rounds(master, chunk) else None
        if group["eight_bit"]:
            if self.divisor is not None:
                torch._foreach_div_(gradients, self.divisor)
            for (piece, state), value, gradient in zip(chunk, values, gradients, strict=True):
                eight_bit.update(value, gradient, state, piece.first, piece.last, group)
        else:
            self._step_values(group, chunk, values, gradients, noise)
        master.put(chunk, taken, self.scratch, noise)

    def _step_values(
        self,
        group: dict[str, Any],
        chunk: Chunk,
        values: list[torch.Tensor],
        gradients: list[torch.Tensor],
        noise: torch.Tensor | None,
    ) -> None:
        """The kernel over the pieces of a chunk, whose moments may be kept in fewer bits than the values."""
        kept = {name: [piece.of(state[name]) for piece, state in chunk] for name in MOMENTS}
        wide: dict[str, Flat] = {}
        if kept["exp_avg"][0].dtype != values[0].dtype:
            wide = {name: self.scratch.filled(name, pieces) for name, pieces in kept.items()}
        beta1, beta2 = group["betas"]
        self.kernel(
            values,
            gradients,
            *(wide[name][1] if wide else kept[name] for name in MOMENTS),
            [],
            [state["step"].to(values[0].device) for _, state in chunk],
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
            grad_scale=self.divisor,
        )
        for name, flat in wide.items():
            assert noise is not None, "moments in fewer bits are rounded stochastically"
            round_into(kept[name], flat, noise)

    def _rounds(self, master: Master, chunk: Chunk) -> bool:
        reduced = chunk[0][1]["exp_avg"].dtype == torch.bfloat16
        return master is masters.MASTERS["stochastic"] or (reduced and master is masters.MASTERS["kahan"])

    def _noise(self, chunk: Chunk, place: tuple[int, ...]) -> torch.Tensor:
        count = sum(piece.last - piece.first for piece, _ in chunk)
        piece, state = chunk[0]
        return self.noise.window(int(state["step"]), (*place, piece.first), count, piece.weight.device)

    def put_whole(self, weight: torch.Tensor, group: Mapping[str, Any], whole: Mapping[str, torch.Tensor]) -> None:
        """Takes a value, its moments and its count of steps from whole float32 tensors."""
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
                place = torch.device("cpu") if name == "step" else weight.device
                self.state[weight][name] = torch.as_tensor(kept).detach().to(place, copy=True)


def _gradient(weight: torch.Tensor) -> torch.Tensor:
    assert weight.grad is not None, "weights without a gradient are not stepped"
    return weight.grad
