"""Bytes that weights, gradients and optimizer hold on one device.

ZeRO's shares are those of Rajbhandari et al. 2020 (arXiv 1910.02054, section 3): stage 1 divides the optimizer, stage 2
also the gradients, stage 3 also the weights. Activations come with a later, deeper model of memory.
"""

from dataclasses import dataclass
from typing import Any

from trainer.config.optimizer import Optimizer

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class StateMemory:
    """Bytes a device that live from the first step to the last."""

    weights: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        """All three."""
        return self.weights + self.gradients + self.optimizer

    def to_json(self) -> dict[str, Any]:
        """The contract's `memory.device` object; what is not yet predicted is null."""
        components = {"weights": self.weights, "gradients": self.gradients, "optimizer": self.optimizer}
        return {"tensors": self.total, "process": None, "low": None, "high": None, "components": components}


def state_memory(
    total: int, trainable: int, *, dtype: str, optimizer: Optimizer, engine: str, zero: int, ranks: int
) -> StateMemory:
    """Bytes a device for `total` parameters of which `trainable` train.

    Adam's two moments are kept as the copy that updates are added to: float32 with masters, else as stored. DeepSpeed
    keeps that copy of the trained weights always, torch only where weights are stored in fewer bits.
    """
    size = BYTES[dtype]
    deepspeed = engine == "deepspeed" and zero > 0
    masters = optimizer.master == "float32" and size < 4
    copy = 4 if optimizer.master == "float32" else size
    each = 2 * copy + (copy if masters or deepspeed else 0)
    # Shares of gradients are added up in the type of the copy.
    gradient = copy if deepspeed and zero >= 2 else size
    return StateMemory(
        weights=_share(size * total, ranks if deepspeed and zero >= 3 else 1),
        gradients=_share(gradient * trainable, ranks if deepspeed and zero >= 2 else 1),
        optimizer=_share(each * trainable, ranks if deepspeed else 1),
    )


def _share(amount: int, ranks: int) -> int:
    return -(-amount // ranks)
