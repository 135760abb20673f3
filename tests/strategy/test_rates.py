"""What the rate of each parameter is, by the structure of the model."""

from typing import Any

import a_recipe
import pytest
from strategy.test_strategies import model

from trainer.config.optimizer import Optimizer
from trainer.parameter import parameter
from trainer.strategy.rates import rates, settings_of


def scales(family: str, **settings: Any) -> dict[str, float]:
    listed = [parameter(name, tuple(one.shape)) for name, one in model(family).named_parameters()]
    return {name: rate.scale for name, rate in rates(Optimizer(**settings), listed).items()}


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (
            "llama",
            {
                "lm_head.weight": 1.0,
                "model.norm.weight": 1.0,
                "model.layers.2.mlp.up_proj.weight": 0.5,
                "model.layers.0.mlp.up_proj.weight": 0.125,
                "model.embed_tokens.weight": 0.0625,
            },
        ),
        (
            "gpt2",
            {
                "transformer.ln_f.bias": 1.0,
                "transformer.h.2.attn.c_attn.weight": 0.5,
                "transformer.h.0.ln_1.bias": 0.125,
                "transformer.wte.weight": 0.0625,
                "transformer.wpe.weight": 0.0625,
            },
        ),
        (
            "bert",
            {
                "classifier.weight": 1.0,
                "bert.pooler.dense.weight": 1.0,
                "bert.encoder.layer.1.output.dense.weight": 0.25,
                "bert.embeddings.LayerNorm.weight": 0.0625,
            },
        ),
        ("roberta", {"classifier.dense.weight": 1.0, "roberta.embeddings.word_embeddings.weight": 0.0625}),
        ("vit", {"classifier.weight": 1.0, "vit.layers.2.attention.q_proj.weight": 0.5}),
        # The encoder stands below the decoder.
        (
            "t5",
            {
                "decoder.block.1.layer.0.SelfAttention.q.weight": 0.5,
                "encoder.block.1.layer.0.SelfAttention.q.weight": 0.125,
                "encoder.block.0.layer.0.SelfAttention.q.weight": 0.0625,
                "shared.weight": 0.03125,
            },
        ),
        (
            "bart",
            {
                "model.decoder.layers.1.fc1.weight": 0.5,
                "model.encoder.layers.0.fc1.weight": 0.0625,
                "model.shared.weight": 0.03125,
                "model.encoder.layernorm_embedding.weight": 0.03125,
            },
        ),
    ],
)
def test_each_layer_has_a_share_of_the_one_above_it(family: str, expected: dict[str, float]) -> None:
    found = scales(family, layer_decay=0.5)

    names = {name for name in expected if name in found}
    # transformers names the layers of a ViT in several ways.
    assert names == set(expected) or family == "vit"
    assert {name: found[name] for name in names} == {name: expected[name] for name in names}


def test_parts_have_factors_of_their_own() -> None:
    found = scales("llama", rates={"head": 5.0, "embeddings": 0.5})

    assert (found["lm_head.weight"], found["model.embed_tokens.weight"]) == (5.0, 0.5)
    assert {scale for name, scale in found.items() if "layers" in name} == {1.0}


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("model.layers.0.self_attn.q_proj.lora_A.default.weight", 3.0),
        ("model.layers.0.self_attn.q_proj.lora_B.default.weight", 16.0),
        ("model.layers.0.self_attn.q_proj.ia3_l.default", 3.0),
        ("model.layers.1.mlp.up_proj.oft_R.default.weight", 3.0),
        ("prompt_encoder.embedding.weight", 3.0),
        ("score.modules_to_save.default.weight", 5.0),
        ("model.layers.0.self_attn.q_proj.base_layer.weight", 1.0),
    ],
)
def test_what_an_adapter_adds_has_its_factor(name: str, scale: float) -> None:
    settings = Optimizer(rates={"adapter": 3.0, "lora_b": 16.0, "head": 5.0, "embeddings": 0.5})

    assert rates(settings, [parameter(name, (4, 4))])[name].scale == scale


@pytest.mark.parametrize(("given", "expected"), [(None, 0.8), (0.6, 0.6)])
def test_a_discriminative_strategy_brings_a_decay_along(given: float | None, expected: float) -> None:
    recipe = a_recipe.recipe(
        task={"kind": "classify"},
        strategy={"kind": "discriminative", "decay": 0.8},
        optimizer={"layer_decay": given},
    )

    assert settings_of(recipe).layer_decay == expected
