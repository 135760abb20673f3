import json
from dataclasses import FrozenInstanceError
from typing import Any

import a_recipe
import pytest

from trainer.errors import RecipeError
from trainer.plan import plan as plans
from trainer.plan.manifest import Manifest
from trainer.plan.plan import Plan

LLAMA: dict[str, Any] = {
    "name": None,
    "config": {
        "model_type": "llama",
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "tie_word_embeddings": True,
    },
    "tokenizer": {"vocab_size": 300},
}
# Embeddings, query and output, key and value, three matrices of the MLP, three norms.
PARAMETERS = 300 * 8 + 2 * 8 * 8 + 2 * 4 * 8 + 3 * 16 * 8 + 3 * 8
COUNTED = Manifest(1000, 50)
TOKENISED = Manifest(1000, 50, train_tokens=100_000, train_targets=25_000, longest=300, cut=7, left_out={"too long": 2})


def _plan(manifest: Manifest = COUNTED, **sections: Any) -> Plan:
    return plans.make(a_recipe.recipe(**{"model": LLAMA, **sections}), manifest)


def test_the_facts_have_the_keys_of_the_contract() -> None:
    facts = json.loads(json.dumps(_plan(launch={"processes": 2}).to_json()))

    assert facts["batch"].items() >= {"micro": 4, "accumulate": None, "ranks": 2, "global": 64}.items()
    assert facts["steps"] == 48
    assert facts["parameters"] == {"total": PARAMETERS, "trainable": PARAMETERS}
    assert set(facts["memory"]) == {"device", "host"}
    assert set(facts["memory"]["device"]) == {"tensors", "process", "low", "high", "components"}
    assert facts["memory"]["device"]["components"] == {
        "weights": 2 * PARAMETERS,
        "gradients": 2 * PARAMETERS,
        "optimizer": 12 * PARAMETERS,
    }
    assert facts["communication"] == {"bytes_per_step": None}
    assert facts["time"] == {"step_seconds": None, "tokens_per_second": None}
    assert facts["fits"] is None
    assert [set(choice) for choice in facts["choices"]] == [{"key", "value", "reason"}] * len(facts["choices"])


def test_a_plan_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        _plan().steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("processes", "engine", "expected"),
    [
        (1, {}, ("torch", 0)),
        (2, {}, ("torch", 0)),
        (2, {"offload": "cpu"}, ("deepspeed", 1)),
        (2, {"offload": {"parameters": "cpu"}}, ("deepspeed", 3)),
        (2, {"deepspeed": {"wall_clock_breakdown": True}}, ("deepspeed", 1)),
        (1, {"zero": 1}, ("deepspeed", 1)),
        (1, {"kind": "deepspeed"}, ("deepspeed", 1)),
        (2, {"kind": "torch"}, ("torch", 0)),
        (2, {"kind": "deepspeed", "zero": 3}, ("deepspeed", 3)),
        (1, {"deepspeed": {"zero_optimization": {"stage": 1}}}, ("deepspeed", 1)),
    ],
)
def test_the_engine_follows_from_processes_and_recipe(
    processes: int, engine: dict[str, Any], expected: tuple[str, int]
) -> None:
    plan = _plan(engine=engine, launch={"processes": processes})

    assert (plan.engine, plan.zero) == expected


def test_without_devices_one_process_runs_and_says_why() -> None:
    facts = _plan().to_json()

    assert facts["choices"][0] == {
        "key": "launch.processes",
        "value": 1,
        "reason": "no CUDA device: one process uses all cores",
    }


@pytest.mark.parametrize(
    ("sections", "precision"),
    [
        ({}, "bfloat16"),
        ({"model": {**LLAMA, "dtype": "float32"}}, "float32"),
        ({"model": {**LLAMA, "dtype": "float32"}, "train": {"precision": "bfloat16"}}, "bfloat16"),
    ],
)
def test_products_are_computed_as_weights_are_stored_unless_said(sections: dict[str, Any], precision: str) -> None:
    assert _plan(**sections).precision == precision


def test_a_new_padded_run_must_divide_its_step_and_a_resumed_one_need_not() -> None:
    recipe = a_recipe.recipe(model=LLAMA, data={"packing": False}, batch={"micro": 4, "global": 6})

    with pytest.raises(RecipeError, match=r"it can be 4 or 8 \(any multiple of 4\)"):
        plans.make(recipe, COUNTED)
    assert plans.make(recipe, COUNTED, resuming=True).batch.accumulate == 2


def test_the_plan_is_said_in_a_few_lines() -> None:
    shown = _plan(TOKENISED, launch={"processes": 2}, engine={"zero": 2}).describe().splitlines()

    assert shown[:5] == [
        "Data: 1,000 training rows, 50 for validation; 100,000 tokens, 25% of them learned; "
        "7 cut, 2 left out (too long)",
        "Batch: 64 examples a step, laid end to end in about 1 row of at most 8,192 tokens on each of 2 devices; "
        "48 steps (16 an epoch)",
        "Engine: DeepSpeed ZeRO-2, 2 processes, bfloat16 products",
        f"Model: {PARAMETERS:,} parameters, {PARAMETERS:,} of them train",
        "Memory a device: weights 5.9 KiB + gradients 5.9 KiB + optimizer 17.6 KiB = 29.3 KiB, activations besides",
    ]
    assert all(line.startswith("Chosen: ") for line in shown[5:])


def test_a_model_that_is_not_here_yet_has_unknown_size() -> None:
    recipe = a_recipe.recipe(model={"name": "someone/a-model-that-nobody-has-downloaded"})

    facts = plans.make(recipe, COUNTED).to_json()

    assert facts["parameters"] == {"total": None, "trainable": None}
    assert facts["memory"] == {"device": None, "host": None}


@pytest.mark.parametrize("resuming", [False, True])
def test_groups_of_zero_plus_plus_are_whole_also_where_a_run_goes_on(resuming: bool) -> None:
    recipe = a_recipe.recipe(model=LLAMA, engine={"zero": 3, "hpz": 3}, launch={"processes": 4})

    with pytest.raises(RecipeError, match=r"engine\.hpz: 3 does not divide 4 processes"):
        plans.make(recipe, COUNTED, resuming=resuming)
