"""Attention inside each example of a packed row, through transformers' attention interface.

Shapes: B rows (1 where packed), N heads, K key-value heads, S tokens, L tokens of one example, D size of a head.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Protocol, TypeVar

import torch
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

from trainer.errors import Problem, RecipeError
from trainer.kernels import attention_kernel as kernel
from trainer.model import short_attention

SEGMENTS = "shardtune_segments"
"""The name that transformers knows it by. It has no mask function there, so transformers builds no mask."""

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Segments:
    """The examples that stand end to end and fill a row.

    An object of its own and no tuple, so that torch.compile, which looks into tuples, does not begin anew for each row.
    """

    lengths: tuple[int, ...]
    """Tokens of each."""
    asked: "list[Asked] | None" = None
    """Where each layer notes what it asked, if anybody wants to know."""
    _made: dict[Any, Any] = field(default_factory=dict, repr=False)

    def once(self, key: tuple[Any, ...], make: Callable[[], Made]) -> Made:
        """What `make` gives, made by the first layer that asks and shared by all that follow."""
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made

    def borders(self, device: torch.device) -> torch.Tensor:
        """Where each example begins, and the end of the row: [examples + 1], int32."""
        places = [0, *accumulate(self.lengths)]
        return self.once(
            ("borders", device),
            lambda: torch.tensor(places, dtype=torch.int32).to(device, non_blocking=True),
        )


@dataclass(frozen=True)
class Asked:
    """What a layer asks of its attention, besides the heads."""

    scale: float
    dropout: float = 0.0
    window: int | None = None
    """Tokens that a token sees, itself included; None for all before it."""
    cap: float | None = None
    """Where scores are bent: cap * tanh(score / cap)."""
    sinks: torch.Tensor | None = None
    """A score of each head [N] that takes part in its softmax and brings no value."""
    causal: bool = True


class Kernel(Protocol):
    """Attention of each example to itself: query [1, N, S, D], key and value [1, K, S, D] -> [1, N, S, D]."""

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, asked: Asked
    ) -> torch.Tensor:
        """Outputs of all tokens."""
        ...


Attention = Callable[..., tuple[torch.Tensor, None]]


def interface(kernel: Kernel) -> Attention:
    """A kernel as transformers' models call it; what it cannot hand on is refused."""

    def attention(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        *,
        scaling: float | None = None,
        dropout: float = 0.0,
        segments: Segments | None = None,
        sliding_window: int | None = None,
        softcap: float | None = None,
        s_aux: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        is_causal: bool | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        """[1, S, N, D]."""
        if segments is None:
            raise refused("does not hand examples on to its attention")
        if attention_mask is not None or position_bias is not None:
            raise refused("adds a mask or a bias of its own to its scores")
        if key.shape[2] != query.shape[2]:
            raise refused("attends from one sequence to another")
        causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
        if sliding_window and not causal:
            raise refused("has a window that looks ahead")
        device = query.device.type
        if torch.is_autocast_enabled(device):
            query, key, value = (tensor.to(torch.get_autocast_dtype(device)) for tensor in (query, key, value))
        scale = scaling or query.shape[-1] ** -0.5
        asked = Asked(scale, dropout, sliding_window or None, softcap, s_aux, causal)
        if segments.asked is not None:
            segments.asked.append(asked)
        return kernel(query, key, value, segments, asked).transpose(1, 2).contiguous(), None

    return attention


def refused(why: str) -> RecipeError:
    """The error of a model that cannot be trained on packed rows."""
    return RecipeError([Problem("data.packing", f"this model {why}; set it to false")])


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, asked: Asked
) -> torch.Tensor:
    """By the processor's kernel where it serves, else example by example."""
    if _by_kernel(query, key, value, segments, asked):
        output = kernel.attend(query, key, value, segments.lengths, asked.scale, asked.window or 0)
        return output.transpose(1, 2)
    queries, keys, values = (torch.split(tensor, list(segments.lengths), dim=2) for tensor in (query, key, value))
    outputs = [_of_example(one, its, held, asked) for one, its, held in zip(queries, keys, values, strict=True)]
    return torch.cat(outputs, dim=2)


segments_attention = interface(attend)


def _by_kernel(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, asked: Asked) -> bool:
    """Whether the kernel has what is asked; with AMX two plain products of short bfloat16 examples are faster."""
    if not asked.causal or asked.cap is not None or asked.sinks is not None:
        return False
    short = query.dtype == torch.bfloat16 and max(segments.lengths) <= short_attention.LONGEST
    by_matrix_unit = short and not asked.window and torch.cpu._is_amx_tile_supported()
    return not by_matrix_unit and kernel.serves(query, key, value, asked.dropout)


def _of_example(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, asked: Asked) -> torch.Tensor:
    """One example's own attention: query [1, N, L, D], key and value [1, K, L, D] -> [1, N, L, D]."""
    mask = _band(query.shape[2], asked.window, query.device) if asked.window else None
    plain = mask is None and asked.causal and asked.cap is None and asked.sinks is None
    plain = plain and value.shape[-1] == query.shape[-1]
    if plain and short_attention.serves(query, asked.dropout):
        return short_attention.attend(query, key, value, asked.scale)
    repeat = query.shape[1] // key.shape[1]
    if repeat > 1:
        key, value = key.repeat_interleave(repeat, dim=1), value.repeat_interleave(repeat, dim=1)
    if asked.cap is not None or asked.sinks is not None:
        return _by_products(query, key, value, asked, mask)
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=asked.dropout,
        is_causal=asked.causal and mask is None,
        scale=asked.scale,
    )


def _by_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, asked: Asked, mask: torch.Tensor | None
) -> torch.Tensor:
    """With bent scores and sinks, which torch's own attention does not have; all heads are N."""
    length = query.shape[2]
    scores = (query @ key.transpose(2, 3)).float() * asked.scale
    if asked.cap is not None:
        scores = asked.cap * torch.tanh(scores / asked.cap)
    if mask is None and asked.causal:
        mask = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    if asked.sinks is not None:
        sinks = asked.sinks.float().view(1, -1, 1, 1).expand(1, -1, length, 1)
        scores = torch.cat([scores, sinks], dim=-1)
    chances = torch.softmax(scores, dim=-1)[..., :length].to(value.dtype)
    return functional.dropout(chances, asked.dropout) @ value


def _band(length: int, window: int, device: torch.device) -> torch.Tensor | None:
    """The causal mask [S, S] of a sliding window; None where the example is no longer than the window."""
    if length <= window:
        return None
    place = torch.arange(length, device=device)
    distance = place[:, None] - place[None, :]
    return (distance >= 0) & (distance < window)


AttentionInterface.register(SEGMENTS, segments_attention)


@dataclass(frozen=True)
class Needs:
    """What a model's layers will ask of their attention, by its configuration."""

    cap: bool
    sinks: bool
    dropout: bool
    head: int
    """Size of a head's queries and keys."""
    unlike: bool
    """Whether the values of a head have another size."""

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Needs":
        """Of a model, loaded or on the meta device."""
        config = model.config.get_text_config()
        dropouts = ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob")
        keys = getattr(config, "qk_head_dim", None) or getattr(config, "head_dim", None)
        return cls(
            cap=getattr(config, "attn_logit_softcapping", None) is not None,
            sinks=any(name.endswith(".sinks") for name, _ in model.named_parameters()),
            dropout=any(getattr(config, name, 0.0) for name in dropouts),
            head=keys or config.hidden_size // config.num_attention_heads,
            unlike=getattr(config, "v_head_dim", None) not in (None, keys),
        )


@contextmanager
def own_attention(model: PreTrainedModel) -> Iterator[None]:
    """Transformers' own attention, for generation and for comparisons; the previous one afterwards."""
    name = model.config._attn_implementation
    if name.startswith("shardtune_"):
        # Their sdpa drops soft caps and sinks.
        needs = Needs.of(model)
        name = "eager" if needs.cap or needs.sinks else "sdpa"
    with using(model, name):
        yield


@contextmanager
def using(model: PreTrainedModel, name: str) -> Iterator[None]:
    """The attention of this name; the previous one afterwards."""
    previous = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(previous)
