"""Activation checkpointing: which layers keep less for the backward pass, and what (Chen et al. 2016, arXiv 1604.06174).

A checkpointed layer keeps its input and is computed again in the backward pass; `selective` keeps the results of its
matrix products too, so that only what is cheap is computed again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from trainer.config.train import Every
from trainer.errors import Problem, RecipeError

Kind = Literal["none", "selective", "full"]
KEPT = frozenset(
    {
        "aten::mm",
        "aten::addmm",
        "aten::linear",
        "aten::mkldnn_linear",
        "mkldnn::_linear_pointwise",
        "aten::_scaled_dot_product_flash_attention",
        "aten::_scaled_dot_product_efficient_attention",
        "aten::_scaled_dot_product_cudnn_attention",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "flash_attn::_flash_attn_varlen_forward",
    }
)
"""Operations whose results `selective` keeps: products with weights, and attention that keeps no [S, S] for itself.

Batched products are computed again: they are the scores and probabilities of short examples, larger than all else.
"""


@dataclass(frozen=True)
class Held:
    """Bytes that one layer holds from its forward pass to its backward pass, by what is kept."""

    none: int
    selective: int
    full: int

    def of(self, kind: Kind) -> int:
        """The bytes of a kind."""
        return {"none": self.none, "selective": self.selective, "full": self.full}[kind]


def layers_of(model: PreTrainedModel) -> list[GradientCheckpointingLayer]:
    """The repeated layers in their order; RecipeError where transformers marks none."""
    found = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not found:
        message = f"{type(model).__name__} has no repeated layer that transformers marks; set it to none"
        raise RecipeError([Problem("train.checkpointing", message)])
    return found


def kinds_of(setting: str | Every, count: int) -> list[Kind]:
    """What each of so many layers keeps."""
    if isinstance(setting, Every):
        return ["full" if number % setting.every == 0 else "none" for number in range(count)]
    assert setting in ("none", "selective", "full"), setting
    kind: Kind = setting  # type: ignore[assignment]
    return [kind] * count


def apply(model: PreTrainedModel, kinds: Sequence[Kind]) -> None:
    """Lets each layer keep what its kind says, from the next forward pass on."""
    for layer, kind in zip(layers_of(model), kinds, strict=True):
        layer.gradient_checkpointing = kind != "none"
        layer._gradient_checkpointing_func = partial(_run, layer, kind)


# Not compiled, but what it calls is: a layer's checkpoint stands around its compiled parts.
@torch.compiler.disable(recursive=False)  # type: ignore[no-untyped-call,untyped-decorator]
def _run(layer: nn.Module, kind: Kind, function: Callable[..., Any], *args: Any) -> Any:
    """One layer; as it is below the lowest that trains, where nothing is kept anyway."""
    if not _keeps(layer, (*args, *getattr(function, "keywords", {}).values())):
        return function(*args)
    contexts = {} if kind == "full" else {"context_fn": _selective}
    return checkpoint(function, *args, use_reentrant=False, **contexts)


def _keeps(layer: nn.Module, inputs: Sequence[Any]) -> bool:
    """Whether autograd would keep anything of a layer with these inputs."""
    if not torch.is_grad_enabled():
        return False
    flowing = any(isinstance(one, torch.Tensor) and one.requires_grad for one in inputs)
    return flowing or any(parameter.requires_grad for parameter in layer.parameters())


def _selective() -> Any:
    return create_selective_checkpoint_contexts(_policy)


def _policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if _is_kept(operation) else CheckpointPolicy.PREFER_RECOMPUTE


def _is_kept(operation: Any) -> bool:
    return operation.name().partition(".")[0] in KEPT


@contextmanager
def measured(model: PreTrainedModel) -> Iterator[list[Held]]:
    """The list that is filled by one forward pass with gradients: what each layer would hold. Policies are off then."""
    found: list[Held] = []
    layers = layers_of(model)
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    shared: set[int] = set()
    before = [(layer.gradient_checkpointing, getattr(layer, _FUNCTION, None)) for layer in layers]
    for layer in layers:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = partial(_measure, layer, found, weights | shared, shared)
    try:
        yield found
    finally:
        for layer, (enabled, function) in zip(layers, before, strict=True):
            layer.gradient_checkpointing, layer._gradient_checkpointing_func = enabled, function


_FUNCTION = "_gradient_checkpointing_func"


def _measure(
    layer: nn.Module, found: list[Held], known: set[int], shared: set[int], function: Callable[..., Any], *args: Any
) -> Any:
    """One layer as it is, and what it holds; `shared` are storages that were counted with a layer below."""
    inputs = (*args, *getattr(function, "keywords", {}).values())
    if not _keeps(layer, inputs):
        found.append(Held(0, 0, 0))
        return function(*args)
    held: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known | shared:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), _Results() as results:
        output = function(*args)
    shared.update(held)
    entering = sum(one.nbytes for one in args if isinstance(one, torch.Tensor) and one.requires_grad)
    found.append(Held(sum(held.values()), entering + results.bytes, entering))
    return output


class _Results(TorchDispatchMode):
    """Counts the bytes of the results that `selective` keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if _is_kept(function):
            some = result if isinstance(result, tuple) else (result,)
            self.bytes += sum(one.nbytes for one in some if isinstance(one, torch.Tensor))
        return result
