"""Activation checkpointing: which layers keep less for the backward pass (Chen et al. 2016, arXiv 1604.06174).

A checkpointed layer keeps its input and is computed again in the backward pass; `selective` keeps the results of its
matrix products too, so that only what is cheap is computed again.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts
from transformers import AttentionInterface, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from trainer.config.train import Every
from trainer.errors import Problem, RecipeError
from trainer.model.attention import SEGMENTS
from trainer.plan.recompute import Held, Kind

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


def set_up(model: PreTrainedModel, setting: str | Every) -> None:
    """What the recipe says; auto is decided later, from what is measured."""
    if setting not in ("none", "auto"):
        apply(model, kinds_of(setting, len(layers_of(model))))


def apply(model: PreTrainedModel, kinds: Sequence[Kind]) -> None:
    """Lets each layer keep what its kind says, from the next forward pass on."""
    for layer, kind in zip(layers_of(model), kinds, strict=True):
        layer.gradient_checkpointing = kind != "none"
        layer._gradient_checkpointing_func = partial(_run, layer, kind)
    if "selective" in kinds:
        attention = AttentionInterface()[SEGMENTS]
        AttentionInterface.register(SEGMENTS, attention if hasattr(attention, "unseen") else _Unseen(attention))


class _Unseen:
    """Attention whose operations on a processor the policy is not asked about one by one: all are done again.

    There they are several a short example, and asking costs more than doing them again.
    """

    unseen = True

    def __init__(self, attention: Callable[..., Any]) -> None:
        self.attention = attention

    def __call__(self, module: nn.Module, query: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if query.device.type != "cpu":
            return self.attention(module, query, *args, **kwargs)
        with _disable_current_modes():
            return self.attention(module, query, *args, **kwargs)


# Not compiled, but what it calls is: a layer's checkpoint stands around its compiled parts.
@torch.compiler.disable(recursive=False)  # type: ignore[no-untyped-call,untyped-decorator]
def _run(layer: nn.Module, kind: Kind, function: Callable[..., Any], *args: Any) -> Any:
    """One layer; as it is below the lowest that trains, where nothing is kept anyway."""
    if not _keeps(layer, (*args, *getattr(function, "keywords", {}).values())):
        return function(*args)
    if kind == "full":
        return checkpoint(function, *args, use_reentrant=False)
    return checkpoint(function, *args, use_reentrant=False, context_fn=_selective)


def _keeps(layer: nn.Module, inputs: Sequence[Any]) -> bool:
    """Whether autograd would keep anything of a layer with these inputs."""
    if not torch.is_grad_enabled():
        return False
    flowing = any(isinstance(one, torch.Tensor) and one.requires_grad for one in inputs)
    return flowing or any(parameter.requires_grad for parameter in layer.parameters())


def _selective() -> Any:
    return create_selective_checkpoint_contexts(_policy)  # type: ignore[no-untyped-call]


def _policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if _is_kept(operation) else CheckpointPolicy.PREFER_RECOMPUTE


@lru_cache
def _is_kept(operation: Any) -> bool:
    return operation.name().partition(".")[0] in KEPT


def measure(module: nn.Module, model: PreTrainedModel, batch: Any) -> tuple[list[Held], int]:
    """What each layer would hold of one forward pass with gradients, and bytes that all else holds.

    Weights in another type, which autocast makes, count with all else: they do not grow with the batch.
    """
    layers = layers_of(model)
    ledger = _Ledger(model)
    before = [(layer.gradient_checkpointing, getattr(layer, _FUNCTION, None)) for layer in layers]
    training = module.training
    for layer in layers:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = partial(ledger.layer, layer)
    try:
        module.train()
        outside: list[int] = []
        with torch.enable_grad(), ledger.noting(outside):
            module(batch)
        return ledger.found, sum(outside) + ledger.copies
    finally:
        module.train(training)
        for layer, (enabled, function) in zip(layers, before, strict=True):
            layer.gradient_checkpointing, layer._gradient_checkpointing_func = enabled, function


_FUNCTION = "_gradient_checkpointing_func"


class _Ledger:
    """Every storage that autograd keeps, counted once."""

    def __init__(self, model: PreTrainedModel) -> None:
        weights = [*model.parameters(), *model.buffers()]
        self.known = {tensor.untyped_storage().data_ptr() for tensor in weights}
        self.shapes = {tuple(sorted(getattr(one, "ds_shape", one.shape))) for one in weights if one.dim() == 2}
        self.copies = 0
        self.found: list[Held] = []

    def layer(self, layer: nn.Module, function: Callable[..., Any], *args: Any) -> Any:
        """Runs one layer as it is, and notes what it holds."""
        inputs = (*args, *getattr(function, "keywords", {}).values())
        if not _keeps(layer, inputs):
            self.found.append(Held(0, 0, 0))
            return function(*args)
        sizes: list[int] = []
        with self.noting(sizes), _Results() as results:
            output = function(*args)
        entering = sum(one.nbytes for one in args if isinstance(one, torch.Tensor))
        self.found.append(Held(none=sum(sizes), selective=entering + results.bytes, full=entering))
        return output

    def noting(self, sizes: list[int]) -> torch.autograd.graph.saved_tensors_hooks:
        """Within it, the size of each new storage that is kept."""

        def note(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self.known:
                self.known.add(storage.data_ptr())
                if tuple(sorted(tensor.shape)) in self.shapes:
                    self.copies += storage.nbytes()
                else:
                    sizes.append(storage.nbytes())
            return tensor

        return torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)


class _Results(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the results that `selective` keeps."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if _is_kept(function):
            some = result if isinstance(result, tuple) else (result,)
            self.bytes += sum(one.nbytes for one in some if isinstance(one, torch.Tensor))
        return result
