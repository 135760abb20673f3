"""`engine:` how a step is computed over processes."""

from typing import Any, Literal

from trainer.config.section import Section


class Engine(Section):
    """Plain torch, or DeepSpeed with a ZeRO stage."""

    kind: Literal["auto", "torch", "deepspeed"] = "auto"
    """torch: one process, or one replica a process (DDP); deepspeed: ZeRO; auto: torch on one process, else
    deepspeed."""
    zero: Literal["auto", 0, 1, 2, 3] = "auto"
    """What DeepSpeed shares out over the processes: 1 optimizer state, 2 and gradients, 3 and weights; auto: 2."""
    deepspeed: str | dict[str, Any] | None = None
    """A DeepSpeed configuration that ours is merged into: a JSON file, a preset of ds_configs/, or a mapping."""
