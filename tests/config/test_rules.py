from typing import Any

import a_recipe
import pytest

from trainer.config.launch_rules import LAUNCH_RULES
from trainer.config.log_rules import LOG_RULES
from trainer.config.optimizer_rules import OPTIMIZER_RULES
from trainer.config.recipe import Recipe
from trainer.config.rules import RULES
from trainer.config.strategy_rules import STRATEGY_RULES
from trainer.config.task_rules import TASK_RULES
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
    "a_quantized_base_has_an_adapter": [
        (
            {"model": {"quantization": "nf4"}},
            "model.quantization: weights in nf4 do not train; set adapter.kind: lora, or quantization to none",
        ),
    ],
    "keys_fit_the_quantization": [
        (
            {"model": {"quantization": "int8", "double_quantization": True}, "adapter": {"kind": "lora"}},
            "model.double_quantization: is for 4 bits, and model.quantization is int8; set that to nf4, or leave",
        ),
        (
            {"model": {"quantization_skip": ["o_proj"]}},
            "model.quantization_skip: means nothing without model.quantization; set it, or leave this out",
        ),
    ],
    "an_adapter_stands_on_pretrained_weights": [
        (
            {"model": NEW_MODEL, "adapter": {"kind": "lora"}},
            "adapter.kind: lora needs the pretrained weights of model.name; train a new model in full",
        ),
    ],
    "new_tokens_have_an_adapter_that_keeps_them": [
        (
            {"adapter": {"kind": "ia3"}, "model": {"add_tokens": ["<a>"]}},
            "model.add_tokens: get rows that peft keeps beside lora and dora alone, not beside ia3; set adapter.kind",
        ),
    ],
    "what_stands_before_rows_has_rows_of_its_own": [
        (
            {"adapter": {"kind": "prompt"}, "data": {"packing": True}},
            "data.packing: prompt stands before each example, not between two of them; set it to false",
        ),
        (
            {"adapter": {"kind": "p_tuning"}, "strategy": {"kind": "partial", "last": 1}},
            "strategy.kind: partial chooses among layers, and p_tuning stands before them; leave it out",
        ),
        (
            {"adapter": {"kind": "prefix"}, "train": {"checkpointing": "full"}},
            "train.checkpointing: computes keys again that prefix has put its own before; set it to none, or take",
        ),
    ],
    "a_start_fits_the_base": [
        (
            {"adapter": {"kind": "lora", "start": "pissa"}, "model": {"quantization": "nf4"}},
            "adapter.start: pissa needs model.quantization: none, not nf4; set that, or leave this out",
        ),
        (
            {"adapter": {"kind": "lora", "start": "loftq"}},
            "adapter.start: loftq needs model.quantization: nf4 or fp4, not none; set that, or leave this out",
        ),
    ],
    "what_looks_at_inputs_has_a_whole_model": [
        (
            {"adapter": {"kind": "lora", "start": "eva"}, "engine": {"zero": 3}},
            "adapter.start: eva looks at a whole model before the first step, which ZeRO-3 shares out; set engine.zero",
        ),
    ],
    "ranks_are_let_go_in_the_middle": [
        (
            {"adapter": {"kind": "adalora", "begin": 0.5, "end": 0.5}},
            "adapter.end: 0.5 after 0.5 leaves no steps between; set it lower",
        ),
        ({"adapter": {"kind": "adalora", "r": 12}}, "adapter.r: 12 is no less than the first rank, 12; set it lower"),
        (
            {"adapter": {"kind": "adalora"}, "batch": {"global": None, "global_tokens": 4096}},
            "train.max_steps: is needed by adalora, which lets ranks go by the number of steps",
        ),
        (
            {"adapter": {"kind": "adalora"}, "optimizer": {"in_backward": True}, "train": {"clip": None}},
            "optimizer.in_backward: lets gradients go that adalora looks at before each step; leave it out",
        ),
    ],
    "a_method_of_peft_stands_on_whole_weights": [
        (
            {"adapter": {"kind": "peft", "method": "loha"}, "engine": {"zero": 3}},
            "engine.zero: shares weights out, which not all methods of peft know (loha does not); set it to 2",
        ),
        (
            {"adapter": {"kind": "peft", "method": "loha"}, "model": {"quantization": "nf4"}},
            "model.quantization: is for the adapters by their own kinds, of which lora is one; set it to none",
        ),
    ],
    "lengths_are_taken_of_whole_weights": [
        (
            {"adapter": {"kind": "dora"}, "engine": {"zero": 3}, "model": {"quantization": "nf4"}},
            "engine.zero: 3 does not go with dora on a quantized base, whose weights it cannot gather once more",
        )
    ],
    "targets_can_be_matched": [
        ({"adapter": {"kind": "lora", "ranks": {"re:(q": 4}}}, "adapter.ranks: 're:(q' is no regular expression"),
        ({"adapter": {"kind": "lora", "targets": []}}, "adapter.targets: holds nothing to match"),
        ({"adapter": {"kind": "dora", "targets": ["q_proj", ""]}}, "adapter.targets: holds nothing to match"),
        (
            {"adapter": {"kind": "vera", "targets": ["re:(q_proj"]}},
            "adapter.targets: 're:(q_proj' is no regular expression",
        ),
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
    "attention_fits_the_layout": [
        ({"model": {"attention": "sdpa"}}, "model.attention: sdpa lets packed examples see each other"),
        ({"model": {"attention": "eager"}}, "model.attention: eager lets packed examples see each other"),
        (
            {"model": {"attention": "segments"}, "data": {"packing": False}},
            "model.attention: segments is for packed rows; set it to auto, or data.packing: true",
        ),
        (
            {"model": {"attention": "flex"}, "data": {"packing": False}},
            "model.attention: flex is for packed rows; set it to auto, or data.packing: true",
        ),
    ],
    "flash_computes_in_half_precision": [
        (
            {"model": {"attention": "flash", "dtype": "float32"}},
            "model.attention: flash computes in bfloat16 or float16; set it to flex, or train.precision: bfloat16",
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
    "a_drive_is_named_and_used": [
        (
            {"engine": {"offload": "nvme"}},
            "engine.nvme: is needed: a folder on the drive that engine.offload: nvme goes to",
        ),
        ({"engine": {"nvme": "/drive"}}, "engine.nvme: names a folder for engine.offload: nvme; set that, or leave it"),
        (
            {"engine": {"offload": "nvme", "nvme": "/drive", "zero": 2}},
            "engine.offload: nvme needs engine.zero: 3, not 2",
        ),
        (
            {"engine": {"offload": "nvme", "nvme": "/drive", "zero": 3}, "strategy": {"kind": "layerwise"}},
            "engine.offload: nvme is not carried from one phase of layerwise to the next; set it to cpu or none",
        ),
    ],
    "zero_plus_plus_needs_stage_3": [
        ({"engine": {"hpz": 8}}, "engine.hpz: is for weights that are shared out; set engine.zero: 3, which is auto"),
        (
            {"engine": {"quantized_weights": True, "kind": "torch"}},
            "engine.quantized_weights: is DeepSpeed's; set engine.kind: deepspeed, or leave it out",
        ),
    ],
    "a_step_is_filled_by_examples_or_by_tokens": [
        (
            {"batch": {"global": 64, "global_tokens": 4096}},
            "batch.global_tokens: fills a step by tokens, batch.global by examples; keep one of the two",
        ),
        ({"batch": {"global": None}}, "batch.global: is null, and so is batch.global_tokens; set one of the two"),
    ],
    "a_step_holds_the_longest_example": [
        (
            {"batch": {"global_tokens": 2047}},
            "batch.global_tokens: 2047 is less than one example of data.max_length: 2048 tokens",
        ),
    ],
    "a_stream_says_how_long_it_trains": [
        ({"data": {"streaming": True, "validation": None}}, "train.max_steps: is needed with data.streaming"),
    ],
    "a_stream_is_seen_row_by_row": [
        (
            {"data": {"streaming": True, **keys}, "train": {"max_steps": 9}},
            f"{key}: needs all rows at once, and data.streaming reads them one by one; {way_out}",
        )
        for keys, key, way_out in [
            ({}, "data.validation", "name sources of their own, or set it to null"),
            ({"validation": None, "test": {}}, "data.test", "name sources of their own, or set it to null"),
            ({"validation": None, "clean": {"duplicates": "near"}}, "data.clean.duplicates", "leave it out"),
            ({"validation": None, "clean": {"leakage": "drop"}}, "data.clean.leakage", "leave it out"),
            ({"validation": None, "clean": {"label_noise": "label"}}, "data.clean.label_noise", "leave it out"),
        ]
    ],
    "some_rows_are_left_to_train": [
        (
            {"data": {"validation": {"fraction": 0.5}, "test": {"fraction": 0.5}}},
            "data.test.fraction: 0.5 and data.validation.fraction: 0.5 leave no row to train; lower one",
        ),
    ],
    "time_decides_alone": [
        (
            {"data": {side: {"time": "date", "stratify": "label"}}},
            f"data.{side}.stratify: cannot be held where data.{side}.time names the rows",
        )
        for side in ("validation", "test")
    ],
    "some_lengths_are_kept": [
        (
            {"data": {"clean": {"min_characters": 9, "max_characters": 8}}},
            "data.clean.min_characters: 9 is more than data.clean.max_characters: 8",
        ),
    ],
    "test_names_a_source": [({"data": {"test": []}}, "data.test: is an empty list; name a source, or write null")],
    "only_text_is_split": [
        (
            {"data": {"too_long": "split", **named}},
            f"data.too_long: split is for text, and {key}.format is chat; set it to cut or drop",
        )
        for key, named in (
            ("data.train.0", {"train": [{"path": "a.jsonl", "format": "chat"}]}),
            ("data.validation.1", {"validation": [{"path": "a", "format": "text"}, {"path": "b", "format": "chat"}]}),
            ("data.test.0", {"test": [{"path": "a.jsonl", "format": "chat"}]}),
        )
    ],
    "labelled_rows_have_no_weight": [
        (
            {
                "data": {
                    "pseudo_label": {"run": "a", "rows": [{"path": "b.jsonl", "format": "completion", "weight": 2.5}]}
                }
            },
            "data.pseudo_label.rows.0.weight: 2.5: an epoch sees labelled rows once; leave it out",
        )
    ],
    "pseudo_labels_are_answers": [
        (
            {"data": {"pseudo_label": {"run": "runs/a", "rows": [{"path": "b.jsonl", "format": "text"}]}}},
            "data.pseudo_label.rows.0.format: text has no answer that a run could give; it takes completion,",
        ),
    ],
    "what_is_learned_fits_a_format": [
        ({"data": {"learn": learn}}, f"data.learn: {learn} is for {fits} rows, and data.train has text; set it to auto")
        for learn, fits in (
            ("assistant", "chat, instruction, image_text"),
            ("last_assistant", "chat, instruction, image_text"),
            ("completion", "completion, pair, table, triples"),
        )
    ],
    "sources_name_something": [
        (
            {"data": {"test": [{"path": "a.csv", "format": "text"}, {"path": [], "format": "text"}]}},
            "data.test.1.path: is an empty list; name a file",
        ),
    ],
    "encodings_are_known": [
        (
            {"data": {"clean": {"benchmarks": [{"path": "a.csv", "format": "text", "encoding": encoding}]}}},
            f"data.clean.benchmarks.0.encoding: {encoding} is no encoding of text that Python knows",
        )
        for encoding in ("latin-77", "hex")
    ],
}
"""What breaks each rule, and it alone, and what is said then."""

KEPT: list[dict[str, dict[str, Any]]] = [
    {},
    {"data": {"learn": "all"}},
    {"data": {"learn": "completion", "train": [{"path": "-", "format": "text"}, {"path": "-", "format": "pair"}]}},
    {"data": {"learn": "last_assistant", "train": [{"path": "-", "format": "instruction"}]}},
    {"model": NEW_MODEL},
    {"model": {**NEW_MODEL, "tokenizer": "folder"}},
    {"model": {"tokenizer": "folder"}},
    {"engine": {"kind": "torch", "zero": 0}},
    {"engine": {"kind": "torch"}, "optimizer": {"master": "none"}},
    {"engine": {"kind": "auto", "zero": 3, "deepspeed": "zero3"}},
    {"model": {"attention": "segments"}},
    {"model": {"attention": "flash"}},
    {"model": {"attention": "flash", "dtype": "float32"}, "train": {"precision": "bfloat16"}},
    {"model": {"attention": "flex", "dtype": "float32"}},
    {"model": {"attention": "eager"}, "data": {"packing": False}},
    {"batch": {"micro_tokens": 2048}},
    {"batch": {"micro_tokens": 16}, "data": {"packing": False}},
    {"launch": {"processes": 1}},
    {"engine": {"kind": "torch", "offload": "none"}},
    {"engine": {"offload": "cpu"}},
    {"batch": {"global_tokens": 2048}},
    {"batch": {"global": None, "global_tokens": 4096}},
    {"data": {"streaming": True, "validation": [{"path": "-", "format": "text"}]}, "train": {"max_steps": 9}},
    {"engine": {"zero": 3, "offload": {"optimizer": "cpu", "parameters": "cpu"}}},
]


def test_every_rule_is_broken_here() -> None:
    elsewhere = {*LAUNCH_RULES, *LOG_RULES, *OPTIMIZER_RULES, *STRATEGY_RULES, *TASK_RULES}
    assert {rule.__name__ for rule in RULES if rule not in elsewhere} == set(BROKEN)


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
        "evaluate.mode",
        "launch.processes",
    ]
