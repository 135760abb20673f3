"""The table of model settings, against the installed transformers.

python tests/plan/test_architectures.py    # writes the table again
"""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from trainer.plan import architectures

TABLE = Path(architectures.__file__).with_name("model_defaults.json")
FORMULAS = ("llama", "mistral", "qwen2", "qwen3", "gpt2")
TYPES = (*FORMULAS, "bert", "t5", "bart", "marian", "vit")
SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6}
SHARED = {**SMALL, "intermediate_size": 80, "num_key_value_heads": 3}
VARIANTS = [
    {"model_type": "llama", **SHARED},
    {"model_type": "llama", **SHARED, "tie_word_embeddings": True},
    {"model_type": "llama", **SMALL, "intermediate_size": 80},
    {"model_type": "llama", **SHARED, "attention_bias": True, "mlp_bias": True, "head_dim": 10},
    {"model_type": "mistral", **SHARED},
    {"model_type": "mistral", **SHARED, "head_dim": 10},
    {"model_type": "qwen2", **SHARED, "tie_word_embeddings": True},
    {"model_type": "qwen3", **SHARED},
    {"model_type": "qwen3", **SHARED, "head_dim": 10, "attention_bias": True},
    {"model_type": "gpt2", **SMALL},
    {"model_type": "gpt2", "n_embd": 48, "n_layer": 3, "n_head": 4, "n_inner": 50, "n_positions": 33},
    {"model_type": "gpt2", **SMALL, "tie_word_embeddings": False},
]


def installed_table() -> dict[str, dict[str, dict[str, object]]]:
    general = {field.name for field in dataclasses.fields(PretrainedConfig)}
    table = {}
    for kind in TYPES:
        config = type(AutoConfig.for_model(kind))
        own = [field for field in dataclasses.fields(config) if field.name not in general]
        table[kind] = {"settings": {field.name: field.default for field in own}, "aliases": dict(config.attribute_map)}
    return table


def test_the_table_holds_the_settings_and_defaults_of_transformers():
    assert json.loads(TABLE.read_text()) == json.loads(json.dumps(installed_table()))


@pytest.mark.parametrize("config", VARIANTS, ids=lambda config: "-".join(str(value) for value in config.values()))
def test_the_formula_gives_the_names_and_shapes_of_the_model_that_transformers_builds(config):
    config = {**config, "vocab_size": 131}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))

    assert dict(architectures.shapes(config)) == {name: tuple(value.shape) for name, value in model.named_parameters()}


@pytest.mark.parametrize("kind", FORMULAS)
def test_defaults_alone_give_the_parameters_of_the_default_model(kind):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind))

    assert dict(architectures.shapes({"model_type": kind})) == {
        name: tuple(value.shape) for name, value in model.named_parameters()
    }


def test_a_model_type_without_a_formula_has_no_shapes():
    assert architectures.shapes({"model_type": "bert"}) is None
    assert architectures.shapes({}) is None


def complaints(config: dict[str, object]) -> list[str]:
    return [str(problem) for problem in architectures.problems(config)]


def test_a_misspelt_setting_is_named_with_the_nearest_one():
    assert complaints({"model_type": "llama", "hiden_size": 64}) == [
        "model.config.hiden_size: no such setting of llama; did you mean hidden_size?"
    ]


def test_a_misspelt_model_type_is_named_with_the_nearest_one():
    assert complaints({"model_type": "lama"}) == [
        "model.config.model_type: lama: no new model of this type can be made; did you mean llama?"
    ]


def test_a_model_type_that_cannot_be_made_lists_those_that_can():
    assert "known: bart, bert, gpt2, llama, marian, mistral, qwen2, qwen3, t5" in complaints({"model_type": "rwkv"})[0]
    assert "missing" in complaints({"hidden_size": 64})[0]


def test_all_wrong_settings_come_at_once():
    wrong = {"model_type": "llama", "hidden_size": "big", "vocab_size": 9, "mlp_bias": 1, "rms_norm_eps": "small"}
    assert [line.split(":")[0].removeprefix("model.config.") for line in complaints(wrong)] == [
        "hidden_size",
        "vocab_size",
        "mlp_bias",
        "rms_norm_eps",
    ]


def test_sizes_that_do_not_divide_are_refused():
    assert (
        "no multiple of num_attention_heads 7"
        in complaints({**SHARED, "model_type": "llama", "hidden_size": 50, "num_attention_heads": 7})[0]
    )
    assert "does not divide num_attention_heads 6" in complaints({"model_type": "qwen2", **SMALL})[0]
    assert "even" in complaints({"model_type": "llama", **SHARED, "head_dim": 9})[0]


def test_right_settings_under_any_of_their_names_are_accepted():
    for config in VARIANTS:
        assert complaints(config) == []
    assert complaints({"model_type": "llama", **SHARED, "rope_theta": 5e5, "num_key_value_heads": None}) == []


if __name__ == "__main__":
    TABLE.write_text(json.dumps(installed_table(), indent=1) + "\n")
