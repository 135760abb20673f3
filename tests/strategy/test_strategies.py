"""What each strategy lets train of real models, by name."""

from typing import Any

import a_recipe
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedModel,
    RobertaConfig,
    T5Config,
    ViTConfig,
)

from trainer.config.recipe import Recipe
from trainer.errors import RecipeError
from trainer.parameter import parameter
from trainer.strategy.course import Course
from trainer.strategy.strategies import largest

SIZES = {"vocab_size": 30, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
BART = {"vocab_size": 30, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 16} | {
    "decoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}


def model(family: str, made: Any = None) -> PreTrainedModel:
    """A small one of a family; not on the device `meta`, so that it can be frozen."""
    configs = {
        "llama": LlamaConfig(**SIZES),
        "gpt2": GPT2Config(vocab_size=30, n_embd=16, n_layer=3, n_head=2),
        "bert": BertConfig(**SIZES),
        "roberta": RobertaConfig(**SIZES),
        "vit": ViTConfig(**{name: value for name, value in SIZES.items() if name != "vocab_size"}),
        "t5": T5Config(vocab_size=30, d_model=16, d_ff=16, num_layers=2, num_heads=2, d_kv=8),
        "bart": BartConfig(**BART),
    }
    classes = {"t5": AutoModelForSeq2SeqLM, "bart": AutoModelForSeq2SeqLM, "vit": AutoModelForImageClassification}
    classes |= dict.fromkeys(("bert", "roberta"), AutoModelForSequenceClassification)
    taken: PreTrainedModel = (made or classes.get(family, AutoModelForCausalLM)).from_config(configs[family])
    return taken


def recipe(task: str, strategy: dict[str, Any]) -> Recipe:
    rows = {"train": [{"path": "-", "format": "completion" if task == "seq2seq" else "text"}]}
    return a_recipe.recipe(task={"kind": task}, data=rows, strategy=strategy)


def trained(family: str, strategy: dict[str, Any], task: str = "causal_lm", made: Any = None) -> set[str]:
    """The names of what is left trainable."""
    taken = model(family, made)
    Course(recipe(task, strategy), taken).enter(0)
    return {name for name, one in taken.named_parameters() if one.requires_grad}


def layers(names: set[str]) -> set[int | None]:
    return {parameter(name, ()).depth for name in names}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_last_layers_of_a_decoder(family: str) -> None:
    found = trained(family, {"kind": "partial", "last": 2})

    assert layers(found) == {1, 2}
    names = [name for name, _ in model(family).named_parameters()]
    assert found == {name for name in names if parameter(name, ()).depth in (1, 2)}


@pytest.mark.parametrize("family", ["bert", "roberta", "vit"])
def test_a_head_of_a_task_trains_besides(family: str) -> None:
    found = trained(family, {"kind": "partial", "last": 1}, "classify")

    assert layers(found) == {2, None}
    assert {parameter(name, ()).part for name in found if parameter(name, ()).depth is None} <= {"head", "pooler"}
    assert any("classifier" in name for name in found)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_the_layers_of_a_decoder_follow_those_of_its_encoder(family: str) -> None:
    found = trained(family, {"kind": "partial", "last": 3}, "seq2seq")

    halves = {(parameter(name, ()).half, parameter(name, ()).depth) for name in found}
    assert halves == {("encoder", 1), ("decoder", 0), ("decoder", 1)}
    assert trained(family, {"kind": "partial", "layers": [1, 3]}, "seq2seq") == found


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_one_half_of_an_encoder_decoder(family: str) -> None:
    one = trained(family, {"kind": "encoder_only"}, "seq2seq")
    other = trained(family, {"kind": "decoder_only"}, "seq2seq")

    names = {name for name, _ in model(family).named_parameters()}
    assert {parameter(name, ()).half for name in one} == {"encoder"}
    assert {parameter(name, ()).half for name in other} == {"decoder"}
    # What both share is frozen.
    assert all("shared" in name for name in names - one - other)
    assert names - one - other


def test_a_head_of_its_own_is_the_decoders() -> None:
    names = ("shared.weight", "encoder.block.0.q.weight", "decoder.block.0.q.weight", "lm_head.weight")
    listed = [parameter(name, (2, 2)) for name in names]

    assert largest(recipe("seq2seq", {"kind": "decoder_only"}), listed, set(names)) == {names[2], names[3]}


def test_biases_alone() -> None:
    found = trained("gpt2", {"kind": "partial", "train": ["bias"]})

    assert found == {name for name, _ in model("gpt2").named_parameters() if name.endswith(".bias")}


def test_parts_and_patterns_add_up() -> None:
    found = trained("llama", {"kind": "partial", "train": ["norms", "re:.*[.]0[.].*q_proj.*"]})

    assert found == {name for name, _ in model("llama").named_parameters() if "norm" in name} | {
        "model.layers.0.self_attn.q_proj.weight"
    }
    assert "lm_head.weight" in trained("llama", {"kind": "partial", "train": ["head"]})
    crossing = trained("bart", {"kind": "partial", "train": ["cross_attention"]}, "seq2seq")
    assert crossing
    assert all("encoder_attn" in name for name in crossing)


def test_a_head_and_the_last_layers_go_together() -> None:
    found = trained("llama", {"kind": "discriminative", "last": 1}, "classify", made=AutoModelForSequenceClassification)

    assert layers(found) == {2, None}
    assert {name for name in found if parameter(name, ()).depth is None} == {"score.weight", "model.norm.weight"}


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ({"kind": "partial"}, "strategy: names nothing to train; give it last, layers or train"),
        ({"kind": "partial", "last": 4}, "strategy.last: 4 layers are more than the model has, which is 3"),
        (
            {"kind": "partial", "layers": [1, 3]},
            "strategy.layers: [1, 3] names no layers of the model, which are 0 to 2",
        ),
        ({"kind": "partial", "layers": [2, 1]}, "strategy.layers: [2, 1] names no layers"),
        ({"kind": "partial", "train": ["norm"]}, "strategy.train.0: 'norm' is no part of a model; did you mean norms?"),
        (
            {"kind": "partial", "train": ["vision"]},
            "'vision' fits no parameter; this model has embeddings, attention, mlp",
        ),
        ({"kind": "partial", "train": ["re:["]}, "strategy.train.0: 're:[' is no regular expression"),
        (
            {"kind": "partial", "train": ["re:model.layers.0.self_attn.q_porj.weight"]},
            "did you mean model.layers.0.self_attn.q_proj.weight?",
        ),
        (
            {"kind": "encoder_only"},
            "strategy.kind: encoder_only is for encoder-decoders such as T5, and this model is a",
        ),
        ({"kind": "discriminative"}, "discriminative is for tasks with a head of their own"),
    ],
)
def test_what_fits_nothing_is_told(strategy: dict[str, Any], message: str) -> None:
    listed = [parameter(name, tuple(one.shape)) for name, one in model("llama").named_parameters()]

    with pytest.raises(RecipeError) as caught:
        largest(a_recipe.recipe(strategy=strategy), listed, {one.name for one in listed})

    assert message in str(caught.value)


def test_a_strategy_chooses_among_what_an_adapter_left() -> None:
    taken = model("llama")
    for name, one in taken.named_parameters():
        one.requires_grad_("layers.0" in name)

    with pytest.raises(RecipeError, match="leaves nothing to train of what adapter"):
        Course(a_recipe.recipe(strategy={"kind": "partial", "last": 1}, adapter={"kind": "lora"}), taken).enter(0)
    assert not any(one.requires_grad for one in taken.parameters())
    assert torch.is_grad_enabled()
