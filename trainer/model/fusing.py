"""Puts the processor's kernels in the place of what a model does between its matrix products.

What is replaced is known by its code or by what it computes, never by the name of the model alone: a feed-forward or
a rotation whose code is Llama's, a norm that gives what the formula gives.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.models.llama import modeling_llama

from trainer.kernels import library, rows
from trainer.model import products

_ROTATION = "apply_rotary_pos_emb"


def fuse(model: nn.Module) -> None:
    """Replaces each linear layer, norm, gated activation and rotation that can be computed faster and as well."""
    for module in model.modules():
        if (faster := _faster(module)) is not None:
            module.forward = faster
    for name in {type(module).__module__ for module in model.modules()}:
        _replace_rotation(sys.modules[name])


def _faster(module: nn.Module) -> Callable[..., Any] | None:
    """What takes the place of a module's forward; None where nothing does."""
    if type(module) is nn.Linear:
        return partial(products.forward, module)
    if (offset := _norm_offset(module)) is not None:
        return partial(_norm, module, _eps(module), offset)
    if (kind := _gate_kind(module)) is not None:
        return partial(_feed_forward, module, kind)
    return None


def _norm(module: Any, eps: float, offset: float, hidden: torch.Tensor) -> torch.Tensor:
    if not library.serve(hidden):
        return type(module).forward(module, hidden)  # type: ignore[no-any-return]
    return rows.rms_norm(hidden, module.weight, eps, offset)


def _feed_forward(module: Any, kind: int, hidden: torch.Tensor) -> torch.Tensor:
    opened, up = module.gate_proj(hidden), module.up_proj(hidden)
    both = rows.gated(opened, up, kind) if library.serve(opened) else module.act_fn(opened) * up
    result: torch.Tensor = module.down_proj(both)
    return result


def _eps(module: Any) -> Any:
    return getattr(module, "variance_epsilon", getattr(module, "eps", None))


def _norm_offset(module: Any) -> float | None:
    """What is added to a norm's weight, 0 or Gemma's 1; None where a module is no RMS norm."""
    names = [name for name, _ in module.named_parameters(recurse=False)]
    if names != ["weight"] or not type(module).__name__.endswith("RMSNorm") or not isinstance(_eps(module), float):
        return None
    # Its real weight may be shared out under ZeRO-3: a double with weights of its own is asked.
    double = object.__new__(type(module))
    double.__dict__ = {**module.__dict__, "_parameters": {"weight": nn.Parameter(torch.tensor([0.5, -1.0, 2.0, 0.1]))}}
    hidden = torch.tensor([[1.0, -2.0, 0.25, 3.0], [1e-3, 2e-3, 0.0, -1e-3]])
    with torch.no_grad():
        try:
            given = type(module).forward(double, hidden)
        except (RuntimeError, TypeError):
            return None
        normed = hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + _eps(module))
        for offset in (0.0, 1.0):
            if given.shape == hidden.shape and torch.allclose(given, normed * (double.weight + offset), rtol=1e-5):
                return offset
    return None


def _gate_kind(module: Any) -> int | None:
    """The number of the activation of a gated feed-forward; None where a module is none that the kernels know."""
    if _code(type(module).forward) != _code(modeling_llama.LlamaMLP.forward):
        return None
    values = torch.linspace(-6.0, 6.0, 25)
    given = module.act_fn(values)
    for name, expected in (
        ("silu", functional.silu(values)),
        ("gelu_tanh", functional.gelu(values, approximate="tanh")),
    ):
        if torch.allclose(given, expected, rtol=1e-5, atol=1e-6):
            return rows.ACTIVATIONS[name]
    return None


def _replace_rotation(home: Any) -> None:
    """In the module that defines a model: its layers look the function up there."""
    own = getattr(home, _ROTATION, None)
    # Llama's function itself is asked in the module it came from, where it may be replaced already.
    if own is None or isinstance(own, partial) or _code(own) != _code(_LLAMA_ROTATION):
        return
    setattr(home, _ROTATION, partial(_rotation, own))


_LLAMA_ROTATION = modeling_llama.apply_rotary_pos_emb


def _rotation(
    own: Callable[..., Any],
    query: torch.Tensor,
    key: torch.Tensor,
    cosine: torch.Tensor,
    sine: torch.Tensor,
    unsqueeze_dim: int = 1,
) -> Any:
    if unsqueeze_dim == 1 and rows.turns(query, cosine) and rows.turns(key, cosine):
        return rows.rotate(query, cosine, sine), rows.rotate(key, cosine, sine)
    return own(query, key, cosine, sine, unsqueeze_dim)


@cache
def _code(function: Callable[..., Any]) -> str:
    """A function's statements, without its name, decorators and docstring."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    except (OSError, TypeError, SyntaxError):
        return f"no source of {function}"
    body = getattr(tree.body[0], "body", [])
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    return "\n".join(map(ast.unparse, body))
