from typing import Any

import families
import pytest
import torch
from transformers import PreTrainedModel

from trainer.errors import RecipeError
from trainer.model import isolation
from trainer.model.attention import SEGMENTS, Segments, own_attention

LENGTHS = (5, 1, 11, 3)
CHANGED = 2


def _examples() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, families.VOCABULARY, (length,), generator=generator) for length in LENGTHS]


def _others(examples: list[torch.Tensor]) -> list[torch.Tensor]:
    return [example if index != CHANGED else 52 - example for index, example in enumerate(examples)]


def _packed(model: PreTrainedModel, examples: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The logits of each example, and what reaches its embedded tokens when every example is learned."""
    tokens, lengths = torch.cat(examples), [len(example) for example in examples]
    embedded = model.get_input_embeddings()(tokens[None]).detach().requires_grad_()
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    segments = Segments(tuple(lengths))
    logits = model(inputs_embeds=embedded, position_ids=positions, segments=segments, use_cache=False).logits[0]
    (gradient,) = torch.autograd.grad(_loss(logits, tokens), embedded)
    return list(logits.detach().split(lengths)), list(gradient[0].split(lengths))


def _loss(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Of one and the same token everywhere, so that it reads the same alone and packed."""
    return torch.nn.functional.cross_entropy(logits, torch.full_like(tokens, 7), reduction="sum")


def _alone(model: PreTrainedModel, example: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    embedded = model.get_input_embeddings()(example[None]).detach().requires_grad_()
    with own_attention(model):
        logits = model(inputs_embeds=embedded, use_cache=False).logits[0]
        (gradient,) = torch.autograd.grad(_loss(logits, example), embedded)
    return logits.detach(), gradient[0]


def _gap(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("kind", families.PACKED)
def test_what_one_example_says_changes_no_other_by_a_bit(kind: str) -> None:
    model = families.model(kind, families.PACKED[kind], SEGMENTS)

    first, second = _packed(model, _examples()), _packed(model, _others(_examples()))

    for before, after in zip(first, second, strict=True):
        equal = [torch.equal(one, two) for one, two in zip(before, after, strict=True)]
        assert equal == [index != CHANGED for index in range(len(LENGTHS))]


@pytest.mark.parametrize("kind", families.PACKED | families.EXPERTS)
def test_packed_examples_are_as_each_alone_with_transformers_attention(kind: str) -> None:
    model = families.model(kind, (families.PACKED | families.EXPERTS)[kind], SEGMENTS)
    examples = _examples()

    logits, gradients = _packed(model, examples)

    for example, ours, moved in zip(examples, logits, gradients, strict=True):
        theirs, wanted = _alone(model, example)
        assert _gap(ours, theirs) <= 1e-6
        assert _gap(moved, wanted) <= 1e-5


@pytest.mark.parametrize("kind", families.EXPERTS)
def test_experts_that_compute_other_shapes_move_the_last_bit_alone(kind: str) -> None:
    model = families.model(kind, families.EXPERTS[kind], SEGMENTS)

    (before, _), (after, _) = _packed(model, _examples()), _packed(model, _others(_examples()))

    gaps = [_gap(one, two) for one, two in zip(before, after, strict=True)]
    assert gaps.pop(CHANGED) > 0.01
    assert max(gaps) <= 1e-6


@pytest.mark.parametrize("kind", families.PACKED | families.EXPERTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_families_that_keep_examples_apart_are_taken(kind: str, dtype: torch.dtype) -> None:
    model = families.model(kind, (families.PACKED | families.EXPERTS)[kind], SEGMENTS).to(dtype)

    isolation.check(model)

    assert model.config._attn_implementation == SEGMENTS


@pytest.mark.parametrize("kind", families.REFUSED)
def test_families_that_do_not_are_refused_with_the_way_out(kind: str) -> None:
    settings, reason = families.REFUSED[kind]
    model = families.model(kind, settings, SEGMENTS)

    with pytest.raises(RecipeError) as raised:
        isolation.check(model)

    (problem,) = raised.value.problems
    assert problem.where == "data.packing"
    assert reason in problem.message
    assert problem.message.endswith("; set it to false")


def _leaky(model: PreTrainedModel) -> Any:
    """A convolution over the row beside a layer's attention, as hybrid models have it."""

    def mixed(module: Any, inputs: Any, outputs: Any) -> Any:
        states = outputs[0] if isinstance(outputs, tuple) else outputs
        shifted = states + 0.1 * states.roll(1, dims=1)
        return (shifted, *outputs[1:]) if isinstance(outputs, tuple) else shifted

    return model.base_model.layers[0].register_forward_hook(mixed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_leak_beside_the_attention_is_found(dtype: torch.dtype) -> None:
    model = families.model("llama", families.PACKED["llama"], SEGMENTS).to(dtype)
    _leaky(model)

    with pytest.raises(RecipeError, match="lets the examples of a row see each other"):
        isolation.check(model)


def test_windows_that_do_not_reach_the_attention_are_found() -> None:
    model = families.model("gemma3_text", families.PACKED["gemma3_text"], SEGMENTS)
    for layer in model.base_model.layers:
        layer.self_attn.sliding_window = None

    with pytest.raises(RecipeError, match="does not hand the windows of its layers on"):
        isolation.check(model)
