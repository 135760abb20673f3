"""`engine:` how a step is computed over processes."""

from typing import Any, Literal

from pydantic import Field

from trainer.config.section import Section

Place = Literal["none", "cpu", "nvme"]


class Offload(Section):
    """What lies in the host's memory, or on a drive, while the device computes."""

    optimizer: Place = "none"
    """Moments, float32 copies and the optimizer's work: ZeRO 1 to 3."""
    parameters: Place = "none"
    """Weights, sent to the device layer by layer: ZeRO-3."""


class Engine(Section):
    """Plain torch, or DeepSpeed with a ZeRO stage."""

    kind: Literal["auto", "torch", "deepspeed"] = "auto"
    """torch: one process, or one replica a process (DDP); deepspeed: ZeRO; auto: torch where its state fits a device
    well, else deepspeed."""
    zero: Literal["auto", 0, 1, 2, 3] = "auto"
    """What DeepSpeed shares out over the processes: 1 optimizer state, 2 and gradients, 3 and weights; auto: the lowest
    whose state fits a device well."""
    offload: Place | Offload = "none"
    """What DeepSpeed keeps elsewhere; cpu: the optimizer, and with zero: 3 the weights too, on the host; nvme: both on
    a drive, with zero: 3."""
    nvme: str | None = None
    """The folder on the drive, a fast one of each node's own."""
    hpz: int | None = Field(None, ge=2)
    """ZeRO++ (Wang et al. 2023): so many neighbouring processes, those of a node, keep a second share of the weights of
    zero: 3, so that the backward pass gathers them without leaving the node."""
    quantized_weights: bool = False
    """ZeRO++: the weights of zero: 3 travel in 8 bits."""
    quantized_gradients: bool = False
    """ZeRO++: gradients of zero: 3 travel in 4 bits, by an all-to-all inside and between nodes."""
    deepspeed: str | dict[str, Any] | None = None
    """A DeepSpeed configuration that ours is merged into: a JSON file, a preset of ds_configs/, or a mapping."""

    def offloaded(self, zero: int) -> Offload:
        """What lies on the host at one ZeRO stage."""
        if isinstance(self.offload, Offload):
            return self.offload
        return Offload(optimizer=self.offload, parameters=self.offload if zero == 3 else "none")
