"""Each weight is stepped in the backward pass as soon as its gradient is whole, and the gradient is let go."""

import torch
import torch.distributed as dist
from torch import nn

from trainer import ranks
from trainer.optim import clip
from trainer.optim.stepper import Stepper


class InBackward:
    """Hooks on the weights of an optimizer; gradients are summed over processes one by one, in the same order on all.

    While it is not armed gradients only add up, as those of all micro-batches but the last do.
    """

    def __init__(self, optimizer: Stepper, limit: float | None = None) -> None:
        """`limit`: of the norm of a gradient; each is divided by what the norm of the step before asks for."""
        self.optimizer, self.limit = optimizer, limit
        self.norm: torch.Tensor | None = None
        """That of the step before."""
        self.armed = False
        # By number: an optimizer that loads a state makes its groups anew.
        self._places: dict[torch.Tensor, tuple[int, int]] = {}
        self._hooks = []
        for number, group in enumerate(optimizer.param_groups):
            for weight in group["params"]:
                self._places[weight] = (number, len(self._places))
                self._hooks.append(weight.register_post_accumulate_grad_hook(self._arrived))
        self._norms: list[torch.Tensor] = []
        self._alone = ranks.world_size() == 1
        # Gradients come about from the last layer to the first.
        self._order = list(reversed(self._places))
        self._next = 0
        self._waiting: set[torch.Tensor] = set()

    def _arrived(self, weight: torch.Tensor) -> None:
        if not self.armed:
            return
        if self._alone:
            self._step(weight)
            return
        self._waiting.add(weight)
        while self._next < len(self._order) and self._order[self._next] in self._waiting:
            self._reduce_and_step()

    def _reduce_and_step(self) -> None:
        weight = self._order[self._next]
        self._next += 1
        self._waiting.discard(weight)
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        dist.all_reduce(weight.grad)
        self._step(weight)

    @torch.no_grad()
    def _step(self, weight: torch.Tensor) -> None:
        assert weight.grad is not None, "its gradient has just come about"
        self._norms.append(clip.norm([weight.grad], self.optimizer.scratch))
        number, place = self._places[weight]
        self.optimizer.step_weights(self.optimizer.param_groups[number], [weight], place)
        weight.grad = None

    def detach(self) -> None:
        """Takes the hooks off."""
        for hook in self._hooks:
            hook.remove()

    def finish(self) -> torch.Tensor:
        """Steps what is left after a backward pass; the norm of the whole gradient."""
        while not self._alone and self._next < len(self._order):
            self._reduce_and_step()
        norm = torch.linalg.vector_norm(torch.stack(self._norms)) if self._norms else torch.zeros(())
        self._norms, self._next = [], 0
        self.clip_next(norm)
        return norm

    def clip_next(self, norm: torch.Tensor) -> None:
        """Takes the norm of the step before."""
        self.norm = norm
        self.optimizer.divisor = clip.divisor(norm, self.limit)


def equalise(module: nn.Module) -> None:
    """Gives all processes the weights and buffers of rank 0."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor, 0)
