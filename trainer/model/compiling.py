"""torch.compile of a model's repeated layer: once, for any length of the row."""

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from trainer import ranks
from trainer.model import attention, flash_attention, flex_attention

KERNELS: dict[str, attention.Kernel] = {
    attention.SEGMENTS: attention.attend,
    flash_attention.VARLEN: flash_attention.attend,
    flex_attention.FLEX: flex_attention.attend,
}
SHAPES = 16
"""Times that torch may compile one function anew, such as for a row of one token, before it runs it as it is."""


def compile_layers(model: PreTrainedModel, *, checkpointed: bool = False) -> str | None:
    """Compiles every layer when it first runs; what forbids it, where something does.

    All layers of a kind share their code. What torch cannot compile later on runs as it is, with torch's own warning.
    """
    if checkpointed:
        # torch leaves what a checkpoint calls as it is, in silence.
        return "layers that train.checkpointing computes again are not compiled; set it to none"
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        return f"{type(model).__name__} has no repeated layer that transformers marks"
    if not ranks.accelerators() and ranks.compiler() is None:
        return "no C++ compiler is found (apt install g++)"
    torch._dynamo.config.suppress_errors = True
    torch._dynamo.config.recompile_limit = SHAPES
    # A loop over examples is not compiled: there would be a new one for each number of examples.
    for name, kernel in KERNELS.items():
        AttentionInterface.register(name, torch.compiler.disable(attention.interface(kernel)))  # type: ignore[no-untyped-call]
    for layer in layers:
        layer.compile(dynamic=True)
    return None
