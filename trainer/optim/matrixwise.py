"""Optimizers that look at a weight as a matrix, so that it is stepped whole, in float32."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim._adafactor import adafactor
from torch.optim._muon import muon

from trainer.optim.elementwise import MOMENTS, Group

State = dict[str, Any]
_ROWS, _COLUMNS, _VALUES = "row_var", "col_var", "variance"
_BUFFER, _PROJECTION = "momentum_buffer", "projection"


def _begin_adafactor(weight: torch.Tensor, state: State, group: Group) -> None:
    shape = weight.shape
    sizes = {_ROWS: (*shape[:-1], 1), _COLUMNS: (*shape[:-2], 1, shape[-1])} if len(shape) > 1 else {_VALUES: shape}
    state.update({name: torch.zeros(size, device=weight.device) for name, size in sizes.items()})


def _adafactor(value: torch.Tensor, gradient: torch.Tensor, state: State, group: Group) -> None:
    """Shazeer and Stern 2018, algorithm 4, by torch: the rate is a share of the weight's root mean square."""
    rows, columns, values = ([state.get(name)] for name in (_ROWS, _COLUMNS, _VALUES))
    adafactor(
        [value],
        [gradient],
        rows,
        columns,
        values,
        [state["step"] - 1],  # it counts on
        foreach=False,
        d=1.0,
        lr=group["lr"],
        beta2_decay=-0.8,
        weight_decay=group["weight_decay"],
        eps1=torch.finfo(value.dtype).eps,
        eps2=1e-3,
        maximize=False,
        has_complex=False,
    )


def _begin_muon(weight: torch.Tensor, state: State, group: Group) -> None:
    state[_BUFFER] = torch.zeros(weight.shape, device=weight.device)


def _muon(value: torch.Tensor, gradient: torch.Tensor, state: State, group: Group) -> None:
    """Jordan et al. 2024, by torch; a step is as large as AdamW's (Liu et al. 2025, arXiv 2502.16982, section 2.2)."""
    muon(
        [value],
        [gradient],
        [state[_BUFFER]],
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        momentum=group["momentum"],
        nesterov=True,
        ns_coefficients=(3.4445, -4.7750, 2.0315),
        ns_steps=5,
        eps=1e-7,
        adjust_lr_fn="match_rms_adamw",
        has_complex=False,
    )


def _begin_galore(weight: torch.Tensor, state: State, group: Group) -> None:
    rank, (rows, columns) = group["rank"], weight.shape
    low = (rows, rank) if rows >= columns else (rank, columns)
    state.update({name: torch.zeros(low, device=weight.device) for name in MOMENTS})
    state[_PROJECTION] = torch.zeros((rank, min(rows, columns)), device=weight.device)


def _galore(value: torch.Tensor, gradient: torch.Tensor, state: State, group: Group) -> None:
    """AdamW on the gradient's largest singular directions (Zhao et al. 2024, arXiv 2403.03507, algorithm 2)."""
    tall, basis = value.shape[0] >= value.shape[1], state[_PROJECTION]
    if (int(state["step"]) - 1) % group["every"] == 0:
        left, _, right = torch.linalg.svd(gradient, full_matrices=False)
        basis.copy_((right if tall else left.T)[: group["rank"]])
    low = gradient @ basis.T if tall else basis @ gradient
    beta1, beta2 = group["betas"]
    step = torch.zeros_like(low)
    torch._fused_adamw_(
        [step],
        [low],
        [state[MOMENTS[0]]],
        [state[MOMENTS[1]]],
        [],
        [state["step"].to(low.device)],
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=0.0,
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
    )
    value.mul_(1.0 - group["lr"] * group["weight_decay"])
    value.add_(step @ basis if tall else basis.T @ step, alpha=group["scale_back"])


@dataclass(frozen=True)
class Matrixwise:
    """One rule."""

    begin: Callable[[torch.Tensor, State, Group], None]
    """Adds what it keeps to a weight's state, in float32."""
    update: Callable[[torch.Tensor, torch.Tensor, State, Group], None]
    """Steps value and state by a gradient, in place; the gradient may be overwritten."""


MATRIXWISE = {
    "adafactor": Matrixwise(_begin_adafactor, _adafactor),
    "muon": Matrixwise(_begin_muon, _muon),
    "galore": Matrixwise(_begin_galore, _galore),
}
"""By a group's `form`."""
