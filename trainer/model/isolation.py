"""Whether a model keeps the examples of a packed row apart, found out before it is trusted with one.

Transformers is silent where it does not: layers that are no attention mix the examples of a row, attention may drop the
borders on its way down, and a mask of its own may leave them out (transformers pull request 46634 is one such case).
"""

import torch
from transformers import PreTrainedModel

from trainer.model.attention import SEGMENTS, Segments, refused, using

LENGTHS = (5, 3, 4)
"""Tokens of the examples of the row that is tried; the one in the middle is changed."""
KNOWN_LAYERS = {"full_attention", "sliding_attention"}
NO_INTERFACE = "does not attend through transformers' attention interface"


def check(model: PreTrainedModel) -> None:
    """Raises the reason why packed rows are not for this model; a few tokens go through it twice."""
    if not model._supports_attention_backend:
        raise refused(NO_INTERFACE)
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or []
    unknown = sorted({*kinds} - KNOWN_LAYERS)
    if unknown:
        raise refused(f"has layers of {', '.join(unknown)}, which do not keep packed examples apart")
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.get_input_embeddings().num_embeddings, (2, sum(LENGTHS)), generator=generator)
    segments = Segments(LENGTHS, asked=[])
    before = _states(model, tokens[0], segments)
    assert segments.asked is not None
    if len(segments.asked) != config.num_hidden_layers:
        raise refused(f"has {config.num_hidden_layers} layers, of which {len(segments.asked)} attend by examples")
    windows = sum(asked.window is not None for asked in segments.asked)
    if kinds and windows != kinds.count("sliding_attention"):
        raise refused("does not hand the windows of its layers on to its attention")
    changed, middle = tokens[0].clone(), slice(LENGTHS[0], LENGTHS[0] + LENGTHS[1])
    changed[middle] = tokens[1, middle]
    after = _states(model, changed, Segments(LENGTHS))
    moved = [(one - two).abs().max() for one, two in zip(before, after, strict=True)]
    size = max(part.abs().max() for part in before)
    if max(moved[0], moved[2]) > _allowed(model, before[0].dtype) * size:
        raise refused("lets the examples of a row see each other")


def _states(model: PreTrainedModel, tokens: torch.Tensor, segments: Segments) -> tuple[torch.Tensor, ...]:
    """The last hidden states of each example [L, H], by the attention that goes from example to example."""
    device = next(model.parameters()).device
    places = torch.cat([torch.arange(length) for length in segments.lengths])
    inputs = {"input_ids": tokens[None].to(device), "position_ids": places[None].to(device)}
    training = model.training
    model.eval()
    with torch.no_grad(), using(model, SEGMENTS):
        states = model.base_model(**inputs, segments=segments, use_cache=False).last_hidden_state[0]
    model.train(training)
    return torch.split(states, list(segments.lengths))


def _allowed(model: PreTrainedModel, dtype: torch.dtype) -> float:
    """How much the others may move, relative to the largest state: no more than rounding does in other shapes.

    What an expert computes at once depends on who else is sent to it; in half precision that may send one elsewhere.
    """
    if dtype == torch.float32:
        return 1e-5
    return float("inf") if any(".experts." in name for name, _ in model.named_parameters()) else 0.01
