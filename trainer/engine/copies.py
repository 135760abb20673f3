"""Copies of a state on the host, to be written while training goes on."""

from collections.abc import Iterator
from typing import Any

import torch

_Place = tuple[Any, Any, torch.Size, tuple[int, ...]]
"""A tensor's storage, and where in it the tensor lies: tied tensors share both."""


def size(state: Any) -> int:
    """Bytes of all tensors in a state, tied ones once."""
    return sum({_place(one): one.nbytes for one in _tensors(state)}.values())


def copy(state: Any) -> Any:
    """The same state with tensors of its own on the host; tied ones stay tied."""
    return _copied(state, {})


def _copied(state: Any, made: dict[_Place, torch.Tensor]) -> Any:
    if isinstance(state, torch.Tensor):
        place = _place(state)
        if place not in made:
            made[place] = state.detach().to("cpu", copy=True)
        return made[place]
    if isinstance(state, dict):
        return type(state)((name, _copied(inner, made)) for name, inner in state.items())
    if isinstance(state, list | tuple):
        return type(state)(_copied(inner, made) for inner in state)
    return state


def _tensors(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for inner in state.values() if isinstance(state, dict) else state:
            yield from _tensors(inner)


def _place(tensor: torch.Tensor) -> _Place:
    return tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride()
