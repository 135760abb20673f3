"""Parameters known without weights and without torch."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

from trainer.config.model import Model, NewTokenizer
from trainer.errors import RecipeError
from trainer.parameter import Parameter, depth_of, part_of
from trainer.plan import parameters
from trainer.plan.parameters import of_model

LLAMA = {
    "vocab_size": 67,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "tie_word_embeddings": True,
}


@pytest.fixture
def llama_folder(tmp_path):
    LlamaForCausalLM(LlamaConfig(**LLAMA)).save_pretrained(tmp_path / "llama", max_shard_size="5KB")
    assert (tmp_path / "llama" / "model.safetensors.index.json").is_file()
    return tmp_path / "llama"


def message(model: Model) -> str:
    with pytest.raises(RecipeError) as caught:
        of_model(model, None)
    return str(caught.value)


def named(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.named_parameters()}


def test_a_new_model_takes_its_vocabulary_from_the_tokenizer():
    config = {"model_type": "llama", "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}

    known = of_model(Model(config=config), 300)

    assert known is not None
    assert known[0] == Parameter("model.embed_tokens.weight", (300, 16), None, "embeddings")
    assert known[1] == Parameter("model.layers.0.self_attn.q_proj.weight", (16, 16), 0, "attention")
    assert known[-1] == Parameter("lm_head.weight", (300, 16), None, "head")


def test_a_new_model_is_unknown_while_its_vocabulary_is():
    config = {"model_type": "llama"}
    assert of_model(Model(config=config), None) is None
    assert of_model(Model(config=config, tokenizer=NewTokenizer(vocab_size=300)), None) is not None


def test_wrong_settings_of_a_new_model_are_a_recipe_error():
    assert "did you mean hidden_size?" in message(Model(config={"model_type": "llama", "hiden_size": 3}))
    assert [problem.where for problem in parameters.problems(Model(config={"model_type": "llama", "x": 1}))] == [
        "model.config.x"
    ]


def test_a_folder_of_shards_gives_the_parameters_of_the_model_that_transformers_loads(llama_folder):
    known = of_model(Model(name=str(llama_folder)), None)

    assert {one.name: one.shape for one in known} == named(AutoModelForCausalLM.from_pretrained(llama_folder))
    assert "lm_head.weight" not in {one.name for one in known}


def test_a_folder_of_another_architecture_is_read_from_the_headers_of_its_weights(tmp_path):
    model = PhiForCausalLM(
        PhiConfig(vocab_size=31, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
    )
    model.save_pretrained(tmp_path / "phi")

    known = of_model(Model(name=str(tmp_path / "phi")), None)

    assert {one.name: one.shape for one in known} == named(model)


def test_pickled_weights_are_known_by_formula_or_not_at_all(llama_folder):
    expected = of_model(Model(name=str(llama_folder)), None)
    for file in llama_folder.glob("*.safetensors*"):
        file.unlink()
    (llama_folder / "pytorch_model.bin").touch()
    assert of_model(Model(name=str(llama_folder)), None) == expected

    (llama_folder / "config.json").write_text('{"model_type": "phi"}')
    assert of_model(Model(name=str(llama_folder)), None) is None


def test_a_folder_without_a_config_says_what_belongs_there_and_where_a_model_is(llama_folder):
    said = message(Model(name=str(llama_folder.parent)))
    assert "has no config.json" in said
    assert "a transformers folder holds config.json, model.safetensors" in said
    assert f"did you mean {llama_folder}?" in said


def test_a_path_that_is_not_there_is_refused_with_what_is_near(llama_folder):
    assert "did you mean llama?" in message(Model(name=str(llama_folder.parent / "lama")))
    assert "there is no folder a/b either" in message(Model(name="a/b/c"))
    assert "no such folder: ./x" in message(Model(name="./x"))
    assert "is a file" in message(Model(name=str(llama_folder / "model.safetensors.index.json")))


def test_missing_and_damaged_weights_are_named_all_at_once(llama_folder):
    first, second = sorted(llama_folder.glob("*.safetensors"))[:2]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])

    said = message(Model(name=str(llama_folder)))

    assert str(first) in said
    assert f"{second}: cannot be read as safetensors (it ends after" in said


@pytest.mark.parametrize(
    "content", [b"", b"not a header at all", b"\x02\0\0\0\0\0\0\0[]", b'\x08\0\0\0\0\0\0\0{"a": 1}']
)
def test_a_file_that_is_no_safetensors_file_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(content)
    assert "cannot be read as safetensors" in message(Model(name=str(tmp_path)))


def test_a_config_that_is_not_json_is_named_with_its_line(llama_folder):
    (llama_folder / "config.json").write_text("{\n  oops\n}")
    assert message(Model(name=str(llama_folder))).startswith(f"{llama_folder}/config.json:2: is not JSON")


def test_a_config_that_contradicts_the_weights_is_refused(llama_folder):
    settings = json.loads((llama_folder / "config.json").read_text())
    (llama_folder / "config.json").write_text(json.dumps({**settings, "vocab_size": 68}))
    assert "makes model.embed_tokens.weight [68, 16] where the weight files hold [67, 16]" in message(
        Model(name=str(llama_folder))
    )


def test_a_folder_without_weights_is_refused(llama_folder):
    for file in llama_folder.glob("*.safetensors*"):
        file.unlink()
    assert "no weights" in message(Model(name=str(llama_folder)))


def test_a_hub_id_is_known_once_it_is_in_the_cache(llama_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert of_model(Model(name="someone/llama"), None) is None

    home = tmp_path / "hub" / "models--someone--llama"
    shutil.copytree(llama_folder, home / "snapshots" / "abc")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")

    assert of_model(Model(name="someone/llama"), None) == of_model(Model(name=str(llama_folder)), None)
    assert of_model(Model(name="someone/llama", revision="abc"), None) is not None
    assert of_model(Model(name="someone/llama", revision="v2"), None) is None


def meta(auto, kind, **settings):
    with torch.device("meta"):
        return auto.from_config(AutoConfig.for_model(kind, **settings))


MODELS = {
    "llama": (AutoModelForCausalLM, 32),
    "gpt2": (AutoModelForCausalLM, 12),
    "bert": (AutoModelForSequenceClassification, 12),
    "t5": (AutoModelForSeq2SeqLM, 6),
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_parameter_of_a_real_model_has_a_part_and_every_layer_a_depth(kind):
    auto, layers = MODELS[kind]
    names = list(named(meta(auto, kind)))

    assert "other" not in {part_of(name) for name in names}
    assert {depth_of(name) for name in names} == {None, *range(layers)}
    outside = {part_of(name) for name in names if depth_of(name) is None}
    assert outside <= {"embeddings", "norms", "head", "pooler"}
    inside = {part_of(name) for name in names if depth_of(name) == layers - 1}
    assert inside == {"attention", "mlp", "norms"}


@pytest.mark.parametrize(
    ("name", "depth", "part"),
    [
        ("model.layers.11.self_attn.q_norm.weight", 11, "norms"),
        ("model.layers.11.post_attention_layernorm.weight", 11, "norms"),
        ("model.norm.weight", None, "norms"),
        ("transformer.h.3.attn.c_proj.bias", 3, "attention"),
        ("transformer.h.3.ln_1.bias", 3, "norms"),
        ("transformer.ln_f.weight", None, "norms"),
        ("transformer.wpe.weight", None, "embeddings"),
        ("bert.embeddings.LayerNorm.weight", None, "norms"),
        ("bert.encoder.layer.7.attention.output.dense.weight", 7, "attention"),
        ("bert.encoder.layer.7.output.dense.weight", 7, "mlp"),
        ("bert.pooler.dense.weight", None, "pooler"),
        ("cls.predictions.transform.LayerNorm.weight", None, "head"),
        ("classifier.bias", None, "head"),
        ("shared.weight", None, "embeddings"),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 0, "attention"),
        ("decoder.block.4.layer.2.DenseReluDense.wi.weight", 4, "mlp"),
        ("base_model.model.model.layers.5.mlp.up_proj.lora_A.default.weight", 5, "mlp"),
        ("something.else", None, "other"),
    ],
)
def test_a_name_says_depth_and_part(name, depth, part):
    assert (depth_of(name), part_of(name)) == (depth, part)


def test_nothing_heavy_is_imported(llama_folder):
    code = (
        "import sys\nfrom trainer.config.model import Model\nfrom trainer.plan.parameters import of_model\n"
        f"assert of_model(Model(name={str(llama_folder)!r}), None)\n"
        "assert not {'torch', 'transformers', 'safetensors', 'deepspeed'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
