"""float32 masters: updates too small for a weight's own bits are added to a float32 copy and not lost."""

from typing import Any

import torch


class Masters:
    """Float32 copies of weights stored in fewer bits, and the groups that an optimizer steps in their place."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        self._pairs: list[tuple[torch.nn.Parameter, torch.nn.Parameter]] = []
        self.groups = [{**group, "params": [self._copy(weight) for weight in group["params"]]} for group in groups]

    def _copy(self, weight: torch.nn.Parameter) -> torch.nn.Parameter:
        if weight.dtype == torch.float32:
            return weight
        master = torch.nn.Parameter(weight.detach().float())
        self._pairs.append((weight, master))
        return master

    def take_gradients(self) -> None:
        """Moves each weight's gradient to its master, in float32."""
        for weight, master in self._pairs:
            master.grad = None if weight.grad is None else weight.grad.float()
            weight.grad = None

    @torch.no_grad()
    def write_weights(self) -> None:
        """Rounds each master into its weight, and frees the master's gradient."""
        for weight, master in self._pairs:
            weight.copy_(master)
            master.grad = None

    def state(self) -> list[torch.Tensor]:
        """The masters, in the order of the groups."""
        return [master.detach() for _, master in self._pairs]

    @torch.no_grad()
    def load_state(self, tensors: list[torch.Tensor]) -> None:
        """The masters as they were saved."""
        for (_, master), tensor in zip(self._pairs, tensors, strict=True):
            master.copy_(tensor)
