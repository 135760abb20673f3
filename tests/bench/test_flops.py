"""The formula against torch's own count of the operations that ran."""

import json
from pathlib import Path
from typing import Any

import a_recipe
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from trainer.bench.flops import Cost, cost
from trainer.plan import parameters, trainable

SETTINGS: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
VOCABULARY, EXAMPLES, LENGTH = 300, 2, 16


def _model() -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**SETTINGS, vocab_size=VOCABULARY, attn_implementation="eager"))


def _counted(model: Any) -> int:
    """What a step really computes: the head on every token, attention without the half that the mask leaves out."""
    tokens = torch.randint(0, VOCABULARY, (EXAMPLES, LENGTH))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=tokens).logits.sum().backward()
    return int(counter.get_total_flops())


def _cost(folder: Path, *, changed: int = 0, **sections: Any) -> Cost | None:
    """The formula's cost of a run folder."""
    model = {"name": None, "config": SETTINGS, "tokenizer": {"vocab_size": VOCABULARY}, "dtype": "float32"}
    if sections:
        saved = folder / "base"
        _model().save_pretrained(saved)
        model = {"name": str(saved), "dtype": "float32"}
        (saved / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {}}}))
    (folder / "tokenizer").mkdir()
    vocabulary = {f"t{number}": number for number in range(VOCABULARY)}
    (folder / "tokenizer" / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    recipe = a_recipe.recipe(model=model, **sections)
    listed = parameters.of_model(recipe.model, VOCABULARY)
    assert listed is not None
    counts = trainable.counts(recipe, listed)
    return cost(recipe, folder, {"parameters": {"total": counts.total + changed, "trainable": counts.trainable}})


def _of_every_token(found: Cost) -> float:
    tokens = EXAMPLES * LENGTH
    return found.of(tokens, tokens, 2 * EXAMPLES * LENGTH**2)


def test_a_full_step_costs_what_torch_counts(tmp_path: Path) -> None:
    found = _cost(tmp_path)

    assert found is not None
    assert _of_every_token(found) == pytest.approx(_counted(_model()), rel=1e-3)


def test_a_frozen_base_has_no_gradients_of_its_weights(tmp_path: Path) -> None:
    found = _cost(tmp_path, adapter={"kind": "lora", "r": 2})

    assert found is not None
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    counted = _counted(get_peft_model(_model(), LoraConfig(r=2, target_modules=targets)))
    # In the lowest layer the output's product has a gradient of its input, which the formula leaves out.
    assert _of_every_token(found) == pytest.approx(counted, rel=0.02)


def test_a_formula_that_misses_parameters_is_not_believed(tmp_path: Path) -> None:
    assert _cost(tmp_path, changed=1) is None


def test_another_task_has_no_formula(tmp_path: Path) -> None:
    recipe = a_recipe.recipe(task={"kind": "classify", "label": "x"}, data={"packing": False})

    assert cost(recipe, tmp_path, {"parameters": {"total": 1, "trainable": 1}}) is None
