from typing import Any

import a_recipe
import pytest

from trainer.config.recipe import Recipe
from trainer.config.rules import RULES
from trainer.errors import RecipeError

NEW_MODEL: dict[str, Any] = {"name": None, "config": {"model_type": "llama"}, "tokenizer": {"vocab_size": 300}}

BROKEN: dict[str, list[tuple[dict[str, dict[str, Any]], str]]] = {
    "float16_has_its_loss_scaled": [
        ({"model": {"dtype": "float16"}}, "engine.kind: float16 needs a scaled loss"),
        (
            {"model": {"dtype": "float32"}, "train": {"precision": "float16"}, "engine": {"kind": "torch"}},
            "engine.kind: float16 needs a scaled loss",
        ),
    ],
    "validation_names_a_source": [({"data": {"validation": []}}, "data.validation: is an empty list")],
    "products_are_no_wider_than_weights": [
        (
            {"model": {"dtype": "bfloat16"}, "train": {"precision": "float32"}},
            "train.precision: float32 does not go with weights stored in bfloat16; set model.dtype: float32, or auto",
        )
    ],
    "a_model_is_named_or_described": [
        ({"model": {"name": None}}, "model.name: is needed: a transformers folder or a hub id"),
        (
            {"model": {"config": {"model_type": "llama"}, "tokenizer": "folder"}},
            "model.config: describes a new model, and model.name names one; keep one of the two",
        ),
    ],
    "a_new_model_names_its_type": [
        ({"model": {**NEW_MODEL, "config": {}}}, "model.config: needs model_type, such as llama"),
        ({"model": {**NEW_MODEL, "config": {"model_type": 3}}}, "model.config: needs model_type, such as llama"),
    ],
    "a_new_model_has_a_tokenizer": [
        ({"model": {**NEW_MODEL, "tokenizer": None}}, "model.tokenizer: is needed with model.config"),
    ],
    "a_new_tokenizer_is_for_a_new_model": [
        (
            {"model": {"tokenizer": {"vocab_size": 300}}},
            "model.tokenizer: a new tokenizer does not fit the weights of model.name; leave the key out",
        ),
    ],
    "an_adapter_stands_on_pretrained_weights": [
        (
            {"model": NEW_MODEL, "adapter": {"kind": "lora"}},
            "adapter.kind: lora needs the pretrained weights of model.name; train a new model in full",
        ),
    ],
    "targets_can_be_matched": [
        ({"adapter": {"targets": []}}, "adapter.targets: holds nothing to match"),
        ({"adapter": {"targets": ["q_proj", ""]}}, "adapter.targets: holds nothing to match"),
        ({"adapter": {"targets": ["re:(q_proj"]}}, "adapter.targets: 're:(q_proj' is no regular expression"),
    ],
    "new_tokens_are_text_and_named_once": [
        ({"model": {"add_tokens": ["<a>", " "]}}, "model.add_tokens: holds a token without a visible character"),
        ({"model": {"add_tokens": ["<a>", "<b>", "<a>"]}}, "model.add_tokens: holds '<a>' twice; leave one out"),
    ],
    "zero_needs_deepspeed": [
        (
            {"engine": {"kind": "torch", "zero": stage}},
            f"engine.zero: {stage} needs DeepSpeed; set engine.kind: deepspeed, or leave zero out",
        )
        for stage in (1, 2, 3)
    ],
    "a_deepspeed_file_needs_deepspeed": [
        ({"engine": {"kind": "torch", "deepspeed": {}}}, "engine.deepspeed: says nothing with engine.kind: torch"),
    ],
    "segments_lay_rows_end_to_end": [
        ({"model": {"attention": "sdpa"}}, "model.attention: sdpa lets packed examples see each other"),
        ({"model": {"attention": "eager"}}, "model.attention: eager lets packed examples see each other"),
        (
            {"model": {"attention": "segments"}, "data": {"packing": False}},
            "model.attention: segments is for packed rows; set it to auto, or data.packing: true",
        ),
    ],
    "a_packed_row_holds_the_longest_example": [
        (
            {"batch": {"micro_tokens": 2047}},
            "batch.micro_tokens: 2047 is less than one example of data.max_length: 2048 tokens",
        ),
    ],
    "offload_needs_what_is_shared_out": [
        ({"engine": {"kind": "torch", "offload": "cpu"}}, "engine.offload: is DeepSpeed's; set engine.kind: deepspeed"),
        ({"engine": {"zero": 0, "offload": "cpu"}}, "engine.offload: has nothing to move at stage 0"),
        (
            {"engine": {"offload": {"optimizer": "cpu"}}, "optimizer": {"master": "none"}},
            "engine.offload: needs optimizer.master: float32",
        ),
        (
            {"engine": {"zero": 2, "offload": {"parameters": "cpu"}}},
            "engine.offload.parameters: needs engine.zero: 3, not 2",
        ),
    ],
    "processes_are_positive": [
        ({"launch": {"processes": 0}}, "launch.processes: 0 is less than one process; leave it at auto"),
    ],
    "the_mode_fits_the_metric": [
        ({"evaluate": {"mode": "max"}}, "evaluate.mode: max would choose the model with the highest loss"),
    ],
}
"""What breaks each rule, and it alone, and what is said then."""

KEPT: list[dict[str, dict[str, Any]]] = [
    {},
    {"model": NEW_MODEL},
    {"model": {**NEW_MODEL, "tokenizer": "folder"}},
    {"model": {"tokenizer": "folder"}},
    {"engine": {"kind": "torch", "zero": 0}},
    {"engine": {"kind": "torch"}, "optimizer": {"master": "none"}},
    {"engine": {"kind": "auto", "zero": 3, "deepspeed": "zero3"}},
    {"model": {"attention": "segments"}},
    {"model": {"attention": "eager"}, "data": {"packing": False}},
    {"batch": {"micro_tokens": 2048}},
    {"batch": {"micro_tokens": 16}, "data": {"packing": False}},
    {"launch": {"processes": 1}},
    {"engine": {"kind": "torch", "offload": "none"}},
    {"engine": {"offload": "cpu"}},
    {"engine": {"zero": 3, "offload": {"optimizer": "cpu", "parameters": "cpu"}}},
]


def test_every_rule_is_broken_here() -> None:
    assert {rule.__name__ for rule in RULES} == set(BROKEN)


@pytest.mark.parametrize(
    ("name", "sections", "message"),
    [(name, sections, message) for name, cases in BROKEN.items() for sections, message in cases],
)
def test_a_broken_rule_is_told_alone(name: str, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        a_recipe.recipe(**sections)

    (problem,) = caught.value.problems
    assert str(problem).startswith(message)
    assert [rule.__name__ for rule in RULES if rule(Recipe.model_validate(a_recipe.content(**sections)))] == [name]


@pytest.mark.parametrize("sections", KEPT, ids=str)
def test_what_goes_together_is_accepted(sections: dict[str, Any]) -> None:
    a_recipe.recipe(**sections)


def test_all_broken_rules_are_told_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        a_recipe.recipe(
            engine={"kind": "torch", "zero": 2},
            launch={"processes": -1},
            evaluate={"mode": "max"},
            model={"name": None},
        )

    assert [problem.where for problem in caught.value.problems] == [
        "model.name",
        "engine.zero",
        "launch.processes",
        "evaluate.mode",
    ]
