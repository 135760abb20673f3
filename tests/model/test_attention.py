from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedModel

from trainer.errors import RecipeError
from trainer.model.attention import SEGMENTS, Segments, own_attention, segments_attention

SEGMENT_LENGTHS = (5, 1, 9, 3)


def _heads(keys: int = 4, length: int = sum(SEGMENT_LENGTHS)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    shapes = ((1, 4, length, 8), (1, keys, length, 8), (1, keys, length, 8))
    query, key, value = (torch.randn(shape) for shape in shapes)
    return query, key, value


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: tuple[int, ...], window: int | None = None
) -> torch.Tensor:
    module = torch.nn.Module()
    return segments_attention(module, query, key, value, None, segments=Segments(segments), sliding_window=window)[0]


@pytest.mark.parametrize("keys", [4, 2, 1])
@pytest.mark.parametrize("window", [None, 4])
def test_each_example_attends_as_if_it_were_alone(keys: int, window: int | None) -> None:
    query, key, value = _heads(keys)

    together = _attend(query, key, value, SEGMENT_LENGTHS, window)

    alone = [
        _attend(*parts, (length,), window)
        for length, *parts in zip(
            SEGMENT_LENGTHS, *(tensor.split(SEGMENT_LENGTHS, dim=2) for tensor in (query, key, value)), strict=True
        )
    ]
    assert torch.equal(together, torch.cat(alone, dim=1))


def test_grouped_heads_share_their_keys_in_order() -> None:
    query, key, value = _heads(keys=2)

    grouped = _attend(query, key, value, SEGMENT_LENGTHS)

    whole = _attend(query, key[:, [0, 0, 1, 1]], value[:, [0, 0, 1, 1]], SEGMENT_LENGTHS)
    assert torch.equal(grouped, whole)


def test_a_model_may_scale_its_scores_itself() -> None:
    query, key, value = _heads(length=6)

    scaled, _ = segments_attention(torch.nn.Module(), query, key, value, None, segments=Segments((6,)), scaling=0.3)

    expected = functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.3)
    torch.testing.assert_close(scaled, expected.transpose(1, 2))


def test_a_window_sees_itself_and_the_tokens_just_before() -> None:
    query, key, value = _heads(length=6)

    windowed = _attend(query, key, value, (6,), window=2)

    scores = (query @ key.transpose(2, 3)) / 8**0.5
    places = torch.arange(6)
    seen = (places[:, None] >= places) & (places[:, None] - places < 2)
    expected = scores.masked_fill(~seen, float("-inf")).softmax(-1) @ value
    torch.testing.assert_close(windowed, expected.transpose(1, 2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("window", [None, 4])
def test_scores_are_bent_before_the_softmax(window: int | None) -> None:
    query, key, value = _heads(length=6)
    module = torch.nn.Module()

    bent, _ = segments_attention(
        module, query, key, value, None, segments=Segments((6,)), softcap=0.7, sliding_window=window
    )

    scores = 0.7 * torch.tanh((query @ key.transpose(2, 3)) / 8**0.5 / 0.7)
    distance = torch.arange(6)[:, None] - torch.arange(6)
    seen = (distance >= 0) & (distance < (window or 6))
    expected = scores.masked_fill(~seen, float("-inf")).softmax(-1) @ value
    torch.testing.assert_close(bent, expected.transpose(1, 2), rtol=1e-5, atol=1e-6)


def test_a_sink_takes_its_share_and_brings_nothing() -> None:
    query, key, value = _heads(length=6)
    sinks = torch.randn(4)

    drained, _ = segments_attention(torch.nn.Module(), query, key, value, None, segments=Segments((6,)), s_aux=sinks)

    scores = ((query @ key.transpose(2, 3)) / 8**0.5).exp().tril()
    expected = scores @ value / (scores.sum(-1, keepdim=True) + sinks.exp().view(1, 4, 1, 1))
    torch.testing.assert_close(drained, expected.transpose(1, 2), rtol=1e-5, atol=1e-6)


def test_an_encoder_looks_both_ways_inside_each_example() -> None:
    query, key, value = _heads()
    module = torch.nn.Module()
    module.is_causal = False  # type: ignore[assignment]

    both, _ = segments_attention(module, query, key, value, None, segments=Segments(SEGMENT_LENGTHS))

    parts = zip(*(tensor.split(SEGMENT_LENGTHS, dim=2) for tensor in (query, key, value)), strict=True)
    expected = torch.cat([functional.scaled_dot_product_attention(*part) for part in parts], dim=2)
    torch.testing.assert_close(both, expected.transpose(1, 2))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"attention_mask": torch.zeros(1, 1, 18, 18)}, "adds a mask or a bias of its own"),
        ({"position_bias": torch.zeros(1, 4, 18, 18)}, "adds a mask or a bias of its own"),
        ({"key": torch.zeros(1, 4, 7, 8), "value": torch.zeros(1, 4, 7, 8)}, "attends from one sequence to another"),
        ({"is_causal": False, "sliding_window": 4}, "has a window that looks ahead"),
    ],
)
def test_what_cannot_be_handed_on_is_refused(more: dict[str, Any], message: str) -> None:
    query, key, value = _heads()
    arguments = {"query": query, "key": key, "value": value, "attention_mask": None} | more

    with pytest.raises(RecipeError, match=rf"data.packing: this model {message}.*; set it to false"):
        segments_attention(torch.nn.Module(), segments=Segments(SEGMENT_LENGTHS), **arguments)


def test_borders_are_made_once_for_all_layers() -> None:
    segments = Segments(SEGMENT_LENGTHS)

    borders = segments.borders(torch.device("cpu"))

    assert borders.tolist() == [0, 5, 6, 15, 18]
    assert borders.dtype == torch.int32
    assert segments.borders(torch.device("cpu")) is borders


def _llama(attention: str) -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        use_cache=False,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM._from_config(config, attn_implementation=attention).eval()


def _packed(model: PreTrainedModel, examples: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The logits of examples that stand end to end, one tensor an example."""
    lengths = tuple(len(example) for example in examples)
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    logits = model(
        input_ids=torch.cat(examples)[None], position_ids=positions, segments=Segments(tuple(lengths)), use_cache=False
    ).logits
    return tuple(logits[0].split(lengths))


def _random_examples(lengths: tuple[int, ...], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 50, (length,), generator=generator) for length in lengths]


def test_packed_logits_are_those_of_transformers_for_each_example_alone() -> None:
    model, theirs = _llama(SEGMENTS), _llama("sdpa")
    examples = _random_examples(SEGMENT_LENGTHS)

    with torch.no_grad():
        packed = _packed(model, examples)

        for ours, example in zip(packed, examples, strict=True):
            torch.testing.assert_close(ours, theirs(input_ids=example[None]).logits[0], rtol=1e-6, atol=1e-6)


def test_changing_one_example_changes_no_other_by_a_bit() -> None:
    model = _llama(SEGMENTS)
    before = _random_examples(SEGMENT_LENGTHS)
    after = [*before[:2], (before[2] + 1) % 50, before[3]]

    with torch.no_grad():
        first, second = _packed(model, before), _packed(model, after)

    assert [torch.equal(one, two) for one, two in zip(first, second, strict=True)] == [True, True, False, True]


def _attention_gradients(value_scale: float) -> tuple[torch.Tensor, ...]:
    """What reaches each example's query, key and value when only the others differ by a scale."""
    tensors = [tensor.requires_grad_() for tensor in _heads(keys=2)]
    scale = torch.cat(
        [torch.full((length,), value_scale if index == 2 else 1.0) for index, length in enumerate(SEGMENT_LENGTHS)]
    )
    scaled = [tensor * scale[None, None, :, None] for tensor in tensors]
    _attend(scaled[0], scaled[1], scaled[2], SEGMENT_LENGTHS).square().sum().backward()
    gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
    return tuple(
        torch.cat([part.flatten() for part in parts])
        for parts in zip(*(one.split(SEGMENT_LENGTHS, 2) for one in gradients), strict=True)
    )


def test_changing_one_example_changes_no_gradient_of_another_by_a_bit() -> None:
    before, after = _attention_gradients(1.0), _attention_gradients(3.0)

    assert [torch.equal(one, two) for one, two in zip(before, after, strict=True)] == [True, True, False, True]


def test_a_loss_on_one_example_reaches_no_token_of_another() -> None:
    model = _llama(SEGMENTS)
    examples = _random_examples(SEGMENT_LENGTHS)
    embedded = model.get_input_embeddings()(torch.cat(examples)[None]).detach().requires_grad_()
    positions = torch.cat([torch.arange(length) for length in SEGMENT_LENGTHS])[None]

    logits = model(
        inputs_embeds=embedded, position_ids=positions, segments=Segments(SEGMENT_LENGTHS), use_cache=False
    ).logits
    logits[0].split(SEGMENT_LENGTHS)[2].square().sum().backward()

    assert embedded.grad is not None
    reached = [bool(part.any()) for part in embedded.grad[0].split(SEGMENT_LENGTHS)]
    assert reached == [False, False, True, False]


@pytest.mark.parametrize("length", [3, 4, 5, 20])
def test_a_sliding_window_is_that_of_transformers(length: int) -> None:
    config = {
        "vocab_size": 50,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "sliding_window": 4,
        "use_cache": False,
    }
    torch.manual_seed(0)
    model = MistralForCausalLM._from_config(MistralConfig(**config), attn_implementation=SEGMENTS).eval()
    theirs = MistralForCausalLM._from_config(MistralConfig(**config), attn_implementation="sdpa").eval()
    theirs.load_state_dict(model.state_dict())
    examples = _random_examples((length, 7), seed=length)

    with torch.no_grad():
        ours = _packed(model, examples)[0]
        wanted = theirs(input_ids=examples[0][None], use_cache=False).logits[0]

    torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=1e-6)


def test_a_model_that_drops_the_segments_is_refused() -> None:
    query, key, value = _heads()

    with pytest.raises(RecipeError, match=r"data.packing: this model does not hand examples on to its attention"):
        segments_attention(torch.nn.Module(), query, key, value, None)


def test_generation_takes_transformers_attention_and_gives_ours_back() -> None:
    model = _llama(SEGMENTS)
    prompt = _random_examples((6,))[0][None]

    with own_attention(model), torch.no_grad():
        generated = model.generate(input_ids=prompt, max_new_tokens=3, do_sample=False, pad_token_id=0)

    assert generated.shape == (1, 9)
    assert model.config._attn_implementation == SEGMENTS
