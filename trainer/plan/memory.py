"""Bytes that weights, gradients and optimizer hold on one device.

ZeRO's shares are those of Rajbhandari et al. 2020 (arXiv 1910.02054, section 3): stage 1 divides the optimizer, stage 2
also the gradients, stage 3 also the weights. Activations come with a later, deeper model of memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from trainer.config.engine import Offload
from trainer.config.optimizer import Optimizer
from trainer.parameter import Parameter
from trainer.plan import moments

BUCKET = 50_000_000
"""Values that wait together on a device to be reduced."""
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class StateMemory:
    """Bytes a device that live from the first step to the last."""

    weights: int
    gradients: int
    optimizer: int
    host: int = 0
    """Bytes of the host, or of a drive, for the same process: what is offloaded."""

    @property
    def total(self) -> int:
        """What the device holds."""
        return self.weights + self.gradients + self.optimizer

    def to_json(self) -> dict[str, Any]:
        """The contract's `memory.device` object; what is not yet predicted is null."""
        components = {"weights": self.weights, "gradients": self.gradients, "optimizer": self.optimizer}
        return {"tensors": self.total, "process": None, "low": None, "high": None, "components": components}

    def host_json(self) -> dict[str, Any]:
        """The contract's `memory.host` object: bytes of the host for one process."""
        return {"tensors": self.host, "process": None, "low": None, "high": None, "components": {"offload": self.host}}


def state_memory(
    total: int,
    trainable: int,
    *,
    dtype: str,
    optimizer: Optimizer,
    engine: str,
    zero: int,
    ranks: int,
    offload: Offload | None = None,
    trained: Sequence[Parameter] = (),
    micro_batches: int = 1,
    weights: int | None = None,
    hpz: int | None = None,
    listed: Sequence[Parameter] = (),
) -> StateMemory:
    """Bytes a device for `total` parameters of which `trainable` train, in steps of so many micro-batches.

    Adam's two moments are kept as the copy that updates are added to: float32 with masters, else as stored. DeepSpeed
    keeps that copy of the trained weights always, torch only where weights are stored in fewer bits. `trained` are
    those that train, where more than their number matters: without them, none is kept in 8 bits or stepped early.
    `weights` are the bytes of all weights where some are stored in fewer bits, which are not shared out. `hpz` is how
    many processes share the second copy of the weights out that ZeRO++ keeps inside a node (arXiv 2306.10209). Stage 3
    shares each of the `listed` parameters out by itself and fills the last share up, so that all are of one size.
    """
    size = BYTES[dtype]
    deepspeed = engine == "deepspeed" and zero > 0
    if deepspeed and zero >= 3:
        total += _filled_up(listed, ranks)
        trainable += _filled_up(trained, ranks)
    masters = optimizer.master == "float32" and size < 4
    copy = 4 if optimizer.master == "float32" else size
    beside = copy if masters or deepspeed else 0
    if optimizer.master == "kahan":
        beside += BYTES["bfloat16"]
    # Shares of gradients are added up in the type of the copy.
    gradient = copy if deepspeed and zero >= 2 else size
    early = optimizer.in_backward and micro_batches == 1 and trained
    alive = max(one.size for one in trained) if early else trainable
    state = beside * trainable + moments.nbytes(optimizer, trainable, trained, copy)
    second = _share(size * total, hpz) if hpz and deepspeed else 0
    held = StateMemory(
        weights=weights or _share(size * total, ranks if deepspeed and zero >= 3 else 1) + second,
        gradients=_share(gradient * alive, ranks if deepspeed and zero >= 2 else 1),
        optimizer=_share(state, ranks if deepspeed else 1),
    )
    return held if offload is None or not deepspeed else _offloaded(held, offload, zero, size * trainable)


def _offloaded(held: StateMemory, offload: Offload, zero: int, gradients: int) -> StateMemory:
    """The same state with its offloaded part on the host.

    Shares of gradients go with the optimizer; of stage 2 on, the device holds what waits in a bucket to be reduced.
    """
    host = 0
    if offload.optimizer != "none":
        waiting = min(gradients, BUCKET * BYTES["float32"]) if zero >= 2 else held.gradients
        host += held.optimizer + held.gradients
        held = replace(held, gradients=waiting, optimizer=0)
    if offload.parameters != "none":
        host += held.weights
        held = replace(held, weights=0)
    return replace(held, host=host)


def _filled_up(parameters: Sequence[Parameter], ranks: int) -> int:
    """What the last shares of parameters hold besides, so that each has shares of one size."""
    return sum(-one.size % ranks for one in parameters)


def _share(amount: int, ranks: int) -> int:
    return -(-amount // ranks)
