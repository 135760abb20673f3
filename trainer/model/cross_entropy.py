"""Cross-entropy of a linear head, a chunk of positions at a time, so that [positions, vocabulary] is never held.

The gradient of a chunk's logits is made while they are there, so no logits are kept for the backward pass and none are
computed twice. Shapes: T positions, H hidden size, V vocabulary.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from trainer.kernels import library
from trainer.model import fused_loss
from trainer.model.products import affine, product

CHUNK_BYTES = 64 * 2**20
"""Room for the logits of one chunk, and for their gradient where it is apart.

Half of the head's own size where that is more: each chunk adds to the gradient of the whole head.
"""
BLOCK_BYTES = 2**20
"""Room for the float32 logits that a processor works on at a time: they stay in its cache."""

Head = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Loss:
    """What is summed over the positions besides the negative log-likelihood."""

    smoothing: float = 0.0
    """Share of each target that is spread evenly over the vocabulary (Szegedy 2016)."""
    z: float = 0.0
    """Weight of the squared logarithm of the partition function (Chowdhery 2022)."""
    weights: torch.Tensor | None = None
    """The weight of each class [V], float32."""

    def of(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The sum over positions for logits [T, V]; plain torch."""
        logits = logits.float()
        total = functional.cross_entropy(
            logits, targets, weight=self.weights, reduction="sum", label_smoothing=self.smoothing
        )
        if self.z:
            total = total + self.z * torch.logsumexp(logits, dim=-1).square().sum()
        return total


PLAIN = Loss()


@dataclass(frozen=True)
class Bend:
    """What becomes of logits after a linear head: (scale * logits / divisor + bias), held below a soft cap."""

    scale: float = 1.0
    divisor: float = 1.0
    cap: float | None = None
    """Where logits are bent: cap * tanh(logits / cap)."""
    bias: torch.Tensor | None = None
    """Added to each class [1, V]; it does not train."""

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """The same of logits [T, V]."""
        logits = logits if self.scale == 1.0 else logits * self.scale
        logits = logits if self.divisor == 1.0 else logits / self.divisor
        logits = logits if self.bias is None else logits + self.bias.to(logits.device)
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def only_cap(self) -> bool:
        """Whether a soft cap is all there is."""
        return self.scale == self.divisor == 1.0 and self.bias is None


def linear_cross_entropy(
    module: nn.Module,
    hidden: torch.Tensor,
    targets: torch.Tensor,
    vocabulary: int,
    *,
    loss: Loss = PLAIN,
    after: Head | None = None,
    whole: bool = True,
) -> torch.Tensor:
    """The summed loss of targets [T] under the logits after(module(hidden [T, H])); float32, 0 where T is 0.

    A bare linear module has its gradient made by hand, any other by autograd, chunk by chunk in the forward pass. Where
    weights are not whole between passes (ZeRO-3), logits are computed again in the backward pass instead. On CUDA a
    kernel of an installed package does it where it computes the same.
    """
    if not whole:
        return _again(_head(module, after), hidden, targets, vocabulary, loss)
    total: torch.Tensor
    bare = type(module) is nn.Linear and not module._forward_hooks and not module._forward_pre_hooks
    cap = after.cap if isinstance(after, Bend) and after.only_cap() else None
    if bare and (after is None or cap is not None) and hidden.is_cuda and loss.weights is None:
        assert isinstance(module, nn.Linear)
        made = fused_loss.summed(module, hidden, targets, smoothing=loss.smoothing, z=loss.z, cap=cap)
        if made is not None:
            return made
    if bare and after is None:
        total = _Plain.apply(hidden, module.weight, module.bias, targets, loss)  # type: ignore[no-untyped-call]
    else:
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        head = _head(module, after)
        total = _General.apply(hidden, targets, head, vocabulary, loss, *trained)  # type: ignore[no-untyped-call]
    return total


def _head(module: nn.Module, after: Head | None) -> Head:
    return module if after is None else lambda hidden: after(module(hidden))


def _rows(vocabulary: int, width: int, size: int) -> int:
    """Positions of a chunk whose logits take `size` bytes each."""
    return max(1, max(CHUNK_BYTES, vocabulary * width * size // 2) // (vocabulary * size))


class _Plain(torch.autograd.Function):
    """A linear head without hooks; `weight` [V, H] may be tied, frozen, or cast by autocast."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        loss: Loss,
    ) -> torch.Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        inputs, factor = hidden.to(dtype), weight.to(dtype)
        wanted = ctx.needs_input_grad[:3]
        total = hidden.new_zeros((), dtype=torch.float32)
        d_hidden = torch.empty_like(hidden) if wanted[0] else None
        d_weight = d_bias = None
        for part in _parts(len(targets), _rows(weight.shape[0], weight.shape[1], dtype.itemsize)):
            logits = affine(inputs[part], factor, None if bias is None else bias.to(dtype))
            total += _into_gradient(logits, targets[part], loss, logits)
            if d_hidden is not None:
                d_hidden[part] = product(logits, factor.t())
            if wanted[1] and d_weight is not None and dtype == weight.dtype:
                d_weight.addmm_(logits.t(), inputs[part])
            elif wanted[1]:
                d_weight = _added(d_weight, product(logits.t(), inputs[part].t()), weight.dtype)
            if wanted[2]:
                d_bias = _added(d_bias, logits.sum(0), weight.dtype)
        if wanted[1] and d_weight is None:
            d_weight = torch.zeros_like(weight)
        if bias is not None and wanted[2] and d_bias is None:
            d_bias = torch.zeros_like(bias)
        ctx.gradients, ctx.dtype = (d_hidden, d_weight, d_bias), weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        d_hidden, d_weight, d_bias = (_scaled(gradient, outer[0], ctx.dtype) for gradient in ctx.gradients)
        ctx.gradients = None
        return d_hidden, d_weight, d_bias, None, None


def _into_gradient(logits: torch.Tensor, targets: torch.Tensor, loss: Loss, into: torch.Tensor) -> torch.Tensor:
    """The summed loss of logits [T, V]; their gradient is written `into` a place [T, V], which may be their own."""
    vocabulary = logits.shape[1]
    if library.serve(logits) and logits.is_contiguous():
        return _by_kernel(logits if into is logits else into.copy_(logits), targets, loss)
    block = max(1, BLOCK_BYTES * torch.get_num_threads() // (4 * vocabulary))
    total = logits.new_zeros((), dtype=torch.float32)
    spread = loss.smoothing / vocabulary
    for part in _parts(len(targets), block if logits.device.type == "cpu" else len(targets)):
        values, target = logits[part].float(), targets[part, None]
        highest = values.amax(dim=1, keepdim=True)
        picked = values.gather(1, target)
        weight = (1.0 - loss.smoothing) * (torch.ones_like(picked) if loss.weights is None else loss.weights[target])
        said = values.sum(1, keepdim=True) if loss.weights is None else (values @ loss.weights)[:, None]
        values = values.sub_(highest).exp_()
        summed = values.sum(dim=1, keepdim=True)
        log_sum = summed.log() + highest
        every = vocabulary if loss.weights is None else loss.weights.sum()
        terms = weight * (log_sum - picked) + spread * (every * log_sum - said) + loss.z * log_sum.square()
        total += terms.sum()
        values.mul_((weight + spread * every + 2 * loss.z * log_sum) / summed)
        values.scatter_add_(1, target, -weight)
        if spread:
            values.sub_(spread if loss.weights is None else spread * loss.weights)
        into[part] = values
    return total


def _by_kernel(logits: torch.Tensor, targets: torch.Tensor, loss: Loss) -> torch.Tensor:
    """The same in one pass over each row; the logits become their gradient."""
    rows, vocabulary = logits.shape
    losses = torch.empty(rows, dtype=torch.float32)
    weights = None if loss.weights is None else loss.weights.float().contiguous()
    every = float(vocabulary) if weights is None else float(weights.sum())
    numbers = (every, loss.smoothing, loss.z)
    kind = library.TYPES[logits.dtype]
    library.call("cross_entropy", logits, kind, targets.contiguous(), weights, *numbers, losses, rows, vocabulary)
    return losses.sum()


def _added(held: torch.Tensor | None, more: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A sum over chunks in the type of the weight; one chunk stays as it is."""
    return more if held is None else held.to(dtype).add_(more)


def _scaled(gradient: torch.Tensor | None, factor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor | None:
    return None if gradient is None else gradient.to(dtype).mul_(factor)


class _General(torch.autograd.Function):
    """Any head that autograd knows, with the parameters of it that train."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        targets: torch.Tensor,
        head: Head,
        vocabulary: int,
        loss: Loss,
        *trained: torch.Tensor,
    ) -> torch.Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        d_hidden = torch.zeros_like(hidden)
        d_trained = [torch.zeros_like(parameter) for parameter in trained]
        # The logits and their gradient.
        size = 2 * hidden.dtype.itemsize
        for part in _parts(len(targets), _rows(vocabulary, hidden.shape[1], size)):
            with torch.set_grad_enabled(any(ctx.needs_input_grad)):
                inputs = hidden[part].detach().requires_grad_()
                logits = head(inputs)
            d_logits = torch.empty_like(logits)
            total += _into_gradient(logits.detach(), targets[part], loss, d_logits)
            if not logits.requires_grad:
                continue
            first, *others = torch.autograd.grad(logits, (inputs, *trained), d_logits, allow_unused=True)
            d_hidden[part] = first
            for held, more in zip(d_trained, others, strict=True):
                if more is not None:
                    held += more
        ctx.gradients = (d_hidden, *d_trained)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        d_hidden, *d_trained = (gradient.mul_(outer[0]) for gradient in ctx.gradients)
        ctx.gradients = None
        return (d_hidden, None, None, None, None, *d_trained)


def _again(head: Head, hidden: torch.Tensor, targets: torch.Tensor, vocabulary: int, loss: Loss) -> torch.Tensor:
    """Logits are made a second time in the backward pass, under the hooks that bring the weights together."""

    def summed(chunk: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return loss.of(head(chunk), wanted)

    parts = list(_parts(len(targets), _rows(vocabulary, hidden.shape[1], hidden.dtype.itemsize)))
    if len(parts) <= 1:
        return summed(hidden, targets)
    total = hidden.new_zeros((), dtype=torch.float32)
    for part in parts:
        total = total + checkpoint(summed, hidden[part], targets[part], use_reentrant=False)
    return total


def _parts(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))
