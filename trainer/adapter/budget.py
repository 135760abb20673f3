"""AdaLoRA's decisions (Zhang et al. 2023, arXiv 2303.10512): which singular values are kept, by how much the loss needs
them; and the penalty that keeps singular vectors orthogonal.

What is known of importance lies in buffers of the layers, so that checkpoints hold it. Shapes: R rank.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from trainer.config.adapter import AdaLora

NAMES = ("A", "E", "B")
_STEP = "budget_step"


class Budget:
    """Of the layers of one model."""

    def __init__(self, model: nn.Module, layers: Sequence[Any], settings: AdaLora) -> None:
        """`layers` are peft's, each with lora_A [R, in], lora_E [R, 1] and lora_B [out, R]."""
        self.layers, self.settings = layers, settings
        self.steps = 0
        """Of the run, which the plan knows."""
        self.model = model
        model.register_buffer(_STEP, torch.zeros((), dtype=torch.int64))
        for layer in layers:
            layer.register_buffer("budget_gone", torch.zeros_like(layer.lora_E["default"], dtype=torch.bool))
            for name, weight in _weights(layer):
                layer.register_buffer(f"importance_{name}", torch.zeros_like(weight))
                layer.register_buffer(f"uncertainty_{name}", torch.zeros_like(weight))

    @torch.no_grad()
    def before_step(self) -> None:
        """Looks at whole gradients, and adds those of the penalty to them."""
        short, long = self.settings.betas
        count = 2 * len(self.layers)
        for layer in self.layers:
            for name, weight in _weights(layer):
                if weight.grad is None:
                    continue
                importance = getattr(layer, f"importance_{name}")
                uncertainty = getattr(layer, f"uncertainty_{name}")
                # Equations 8 to 10.
                now = (weight * weight.grad).abs()
                importance.mul_(short).add_(now, alpha=1 - short)
                uncertainty.mul_(long).add_((now - importance).abs(), alpha=1 - long)
                if name != "E":
                    weight.grad.add_(_of_penalty(weight, name), alpha=self.settings.orthogonality / count)

    @torch.no_grad()
    def after_step(self) -> None:
        """Lets the least important singular values go, as far as the budget of the step asks."""
        step = int(getattr(self.model, _STEP).add_(1))
        first, last = self._between()
        if step <= first or (step < last and step % self.settings.every):
            return
        scores = [self._scores(layer) for layer in self.layers]
        kept = self.ranks_at(step)
        every = torch.cat(scores)
        threshold = torch.kthvalue(every, len(every) - kept)[0] if kept < len(every) else every.min() - 1
        for layer, score in zip(self.layers, scores, strict=True):
            if step <= last:
                layer.budget_gone.copy_((score <= threshold)[:, None])
            # After the last decision what is gone stays gone.
            layer.lora_E["default"].masked_fill_(layer.budget_gone, 0.0)

    def ranks_at(self, step: int) -> int:
        """All ranks that are kept after a step: a cubic fall from the first to the last (equation 11)."""
        first, last = self._between()
        begins, ends = (len(self.layers) * rank for rank in (self.settings.first, self.settings.r))
        left = min(max((last - step) / max(last - first, 1), 0.0), 1.0)
        return ends + int((begins - ends) * left**3)

    def _between(self) -> tuple[int, int]:
        """The steps between which ranks are let go."""
        first = int(self.settings.begin * self.steps)
        return first, max(first + 1, self.steps - int(self.settings.end * self.steps))

    def _scores(self, layer: Any) -> torch.Tensor:
        """[R]: of each singular value, and the means over its vectors (equation 7)."""
        parts = {name: getattr(layer, f"importance_{name}") * getattr(layer, f"uncertainty_{name}") for name in NAMES}
        found: torch.Tensor = parts["E"][:, 0] + parts["A"].mean(dim=1) + parts["B"].mean(dim=0)
        return found


def _weights(layer: Any) -> Iterator[tuple[str, torch.Tensor]]:
    for name in NAMES:
        yield name, getattr(layer, f"lora_{name}")["default"]


def _of_penalty(weight: torch.Tensor, name: str) -> torch.Tensor:
    """The gradient of the norm of P P^T - 1 for P = A, and for P = B^T."""
    rows = weight if name == "A" else weight.T
    off = rows @ rows.T - torch.eye(rows.shape[0], dtype=rows.dtype, device=rows.device)
    gradient: torch.Tensor = 2 * (off @ rows) / off.norm().clamp(min=1e-12)
    return gradient if name == "A" else gradient.T
