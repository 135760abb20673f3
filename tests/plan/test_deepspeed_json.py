"""The DeepSpeed configuration of a run, and what contradicts the recipe."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.config.deepspeed_keys import unknown_keys
from trainer.config.recipe import Recipe
from trainer.errors import RecipeError
from trainer.plan import deepspeed_source
from trainer.plan.deepspeed_json import build, problems, stage_of

ROOT = Path(deepspeed_source.__file__).parents[2]


def recipe(deepspeed=None, zero="auto", **sections) -> Recipe:
    base = {
        "model": {"config": {"model_type": "llama"}, **sections.pop("model", {})},
        "data": {"train": [{"path": "builtin:stdlib", "format": "instruction"}]},
        "batch": {"micro": 4, "global": 64},
        "engine": {"kind": "deepspeed", "deepspeed": deepspeed, "zero": zero},
    }
    return Recipe.model_validate({**base, **sections})


def built(deepspeed=None, *, zero=2, micro=4, ranks=2, cuda=False, **sections):
    return build(recipe(deepspeed, **sections), zero=zero, micro=micro, ranks=ranks, cuda=cuda)


def said(deepspeed, **sections) -> list[str]:
    return [str(problem) for problem in problems(recipe(deepspeed, **sections))]


def contains(value, what) -> bool:
    inner = value.values() if isinstance(value, dict) else ()
    return value == what or any(contains(one, what) for one in inner)


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_recipe_without_json_fills_in_every_value_of_its_stage(zero, dtype):
    config = built(zero=zero, model={"dtype": dtype})

    assert not contains(config, "auto")
    assert unknown_keys(config) == []
    assert config["zero_optimization"]["stage"] == zero
    assert config["train_micro_batch_size_per_gpu"] == 4
    assert config["gradient_accumulation_steps"] == 1
    assert config["train_batch_size"] == 8
    assert config["gradient_clipping"] == 1.0
    assert (config["bf16"]["enabled"], config["fp16"]["enabled"]) == (dtype == "bfloat16", dtype == "float16")


def test_no_clipping_is_zero_and_not_the_default_of_deepspeed():
    assert built(train={"clip": None})["gradient_clipping"] == 0.0


def test_float32_weights_are_reduced_in_float32():
    assert built(model={"dtype": "float32"})["communication_data_type"] == "fp32"
    assert built(model={"dtype": "float32"}, train={"precision": "bfloat16"})["torch_autocast"] == {
        "enabled": True,
        "dtype": "bfloat16",
        "lower_precision_safe_modules": [],
    }


def test_bfloat16_gradients_accumulate_in_float32_where_they_are_shared_out():
    kept = [built(zero=zero).get("data_types") for zero in (0, 1, 2, 3)]
    assert kept == [None, None, {"grad_accum_dtype": "fp32"}, {"grad_accum_dtype": "fp32"}]
    assert built({"data_types": {"grad_accum_dtype": "bf16"}})["data_types"] == {"grad_accum_dtype": "bf16"}


def test_no_master_weights_means_bfloat16_optimizer_states():
    config = built(optimizer={"master": "none"})
    assert config["bf16"] == {"enabled": True, "bf16_master_weights_and_grads": True, "bf16_optimizer_states": True}
    with pytest.raises(RecipeError, match=r"optimizer\.master: none: DeepSpeed keeps a float32 copy at stage 0"):
        built(zero=0, optimizer={"master": "none"})


def test_overlap_and_pinned_memory_need_a_device():
    for cuda in (False, True):
        section = built("zero2_offload", cuda=cuda)["zero_optimization"]
        assert section["overlap_comm"] is cuda
        assert section["offload_optimizer"] == {"device": "cpu", "pin_memory": cuda}


def test_messages_fit_what_sends_them():
    assert [built(zero=2, cuda=cuda)["zero_optimization"]["reduce_bucket_size"] for cuda in (False, True)] == [
        7_000_000,
        50_000_000,
    ]
    assert built(zero=3, cuda=False)["zero_optimization"]["stage3_prefetch_bucket_size"] == 0
    assert "stage3_prefetch_bucket_size" not in built(zero=3, cuda=True)["zero_optimization"]


def test_the_users_values_lie_over_the_preset_and_auto_leaves_it():
    section = built({"zero_optimization": {"reduce_bucket_size": 7, "allgather_bucket_size": "auto"}})[
        "zero_optimization"
    ]
    assert (section["reduce_bucket_size"], section["allgather_bucket_size"]) == (7, 7_000_000)
    assert "offload_optimizer" not in built({"zero_optimization": {"offload_optimizer": None}})["zero_optimization"]
    assert built({"wall_clock_breakdown": True})["wall_clock_breakdown"] is True


def test_a_file_of_hugging_face_trainer_works_as_it_is(tmp_path):
    file = tmp_path / "hf.json"
    file.write_text(
        json.dumps(
            {
                "fp16": {"enabled": "auto", "loss_scale": 0},
                "bf16": {"enabled": "auto"},
                "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "weight_decay": "auto"}},
                "scheduler": {"type": "WarmupDecayLR", "params": {"warmup_num_steps": "auto", "warmup_max_lr": "auto"}},
                "zero_optimization": {
                    "stage": 3,
                    "sub_group_size": 1e9,
                    "reduce_bucket_size": "auto",
                    "stage3_prefetch_bucket_size": "auto",
                },
                "gradient_accumulation_steps": "auto",
                "gradient_clipping": "auto",
                "steps_per_print": 2000,
                "train_batch_size": "auto",
                "train_micro_batch_size_per_gpu": "auto",
            }
        )
    )
    assert said(str(file)) == []
    assert stage_of(recipe(str(file))) == 3
    config = built(str(file), zero=3)
    assert not contains(config, "auto")
    assert not {"optimizer", "scheduler"} & set(config)
    assert config["steps_per_print"] == 2000


def test_the_stage_is_the_recipes_then_the_jsons_then_open():
    assert stage_of(recipe(zero=1)) == 1
    assert stage_of(recipe("zero3_offload")) == 3
    assert stage_of(recipe({"bf16": {"enabled": "auto"}})) is None
    assert stage_of(recipe("nowhere.json")) is None


def test_every_contradiction_is_named_at_once():
    theirs = {
        "zero_optimization": {"stage": 3},
        "gradient_clipping": 0.5,
        "bf16": {"enabled": False},
        "fp16": {"enabled": True},
        "train_batch_size": 32,
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": 5,
        "gradient_allreduce_op": "sum",
        "sequence_parallel_size": 2,
        "torch_autocast": {"enabled": True, "dtype": "bf16"},
        "optimizer": {"type": "Lamb", "params": {"lr": 1.0, "eps": 1e-8, "bias_correction": False}},
        "scheduler": {"type": "OneCycle", "params": {"cycle_min_lr": 0.1}},
    }
    lines = said(theirs, zero=2)
    assert lines[0] == (
        "engine.deepspeed.zero_optimization.stage: 3 here, engine.zero is 2; make them agree, or write auto here"
    )
    assert [line.split(":")[0].removeprefix("engine.deepspeed.") for line in lines] == [
        "zero_optimization.stage",
        "gradient_clipping",
        "train_micro_batch_size_per_gpu",
        "train_batch_size",
        "bf16.enabled",
        "fp16.enabled",
        "torch_autocast.enabled",
        "torch_autocast.dtype",
        "gradient_accumulation_steps",
        "gradient_allreduce_op",
        "sequence_parallel_size",
        "optimizer.type",
        "optimizer.params.lr",
        "optimizer.params.bias_correction",
        "scheduler.type",
        "scheduler.params.cycle_min_lr",
    ]


def test_values_that_repeat_the_recipe_are_no_contradiction():
    theirs = {
        "zero_optimization": {"stage": 2},
        "gradient_clipping": 1,
        "bf16": {"enabled": True},
        "fp16": {"enabled": False},
        "train_batch_size": 64,
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 8,
        "optimizer": {"type": "Adam", "params": {"lr": 2e-4, "betas": [0.9, 0.999], "torch_adam": True}},
    }
    assert said(theirs, zero=2) == []
    assert built(theirs)["gradient_accumulation_steps"] == 1


def test_accumulation_is_compared_with_the_processes_once_they_are_known():
    assert said({"gradient_accumulation_steps": 4}) == []
    with pytest.raises(RecipeError, match=r"4 micro-batches of 4 on 2 processes are 32 examples a step, batch\.global"):
        built({"gradient_accumulation_steps": 4})


def test_a_step_that_tokens_fill_has_no_number_of_examples():
    tokens = {"batch": {"micro": 4, "global_tokens": 65_536}}

    (accumulation,) = said({"gradient_accumulation_steps": 4}, **tokens)
    (examples,) = said({"train_batch_size": 64}, **tokens)

    assert "4: steps of batch.global_tokens differ in micro-batches; leave it out or write auto" in accumulation
    assert "64 here, batch.global is null; make them agree, or write auto here" in examples
    assert said({"gradient_accumulation_steps": "auto", "train_batch_size": "auto"}, **tokens) == []


def test_plain_adam_and_adamw_are_told_apart():
    plain = {"optimizer": {"type": "Adam", "params": {"adam_w_mode": False}}}
    assert said(plain, optimizer={"kind": "adam"}) == []
    assert len(said(plain)) == 1


def test_offload_that_the_stage_cannot_do_is_refused():
    offload = {"zero_optimization": {"offload_param": {"device": "nvme"}, "offload_optimizer": {"device": "cpu"}}}
    lines = said(offload, zero=0, optimizer={"master": "float32"})
    assert len(lines) == 3
    assert "cpu: needs ZeRO stage 1, this run has stage 0" in lines[0]
    assert "nvme: needs ZeRO stage 3" in lines[1]
    assert "needs nvme_path" in lines[2]
    drive = {"zero_optimization": {"offload_optimizer": {"device": "nvme", "nvme_path": "/mnt"}}}
    assert ["nvme: needs ZeRO stage 3" in line for line in said(drive, zero=2)] == [True]
    assert said(drive, zero=3) == []


def test_unknown_keys_are_named_with_the_line_of_the_file(tmp_path):
    file = tmp_path / "ds.json"
    file.write_text('{\n  "bf16": {\n    "enabled": "auto"},\n  "zero_optimization": {\n    "enabled": true\n  },\n'
                    '  "zero_optimisation": {}\n}')  # fmt: skip
    lines = said(str(file))
    assert lines[0].startswith(f"{file}:5: zero_optimization.enabled: no such key of DeepSpeed; ")
    assert lines[1:] == [f"{file}:7: zero_optimisation: no such key of DeepSpeed; did you mean zero_optimization?"]


def test_a_file_that_is_missing_or_broken_is_one_plain_message(tmp_path):
    assert said("zero2_ofload") == [
        "engine.deepspeed: zero2_ofload: neither a JSON file nor a preset; did you mean zero2_offload?"
    ]
    broken = tmp_path / "broken.json"
    broken.write_text('{"bf16": {},\n "fp16" {}}')
    assert said(str(broken))[0].startswith(f"{broken}:2: is not JSON")
    broken.write_text('{"bf16": {}, "bf16": {}}')
    assert said(str(broken)) == [f"{broken}: cannot be read: bf16 stands there twice; keep one"]
    broken.write_text("[1]")
    assert "holds a list" in said(str(broken))[0]


def test_wrong_kinds_of_values_are_refused_without_a_traceback():
    lines = said(
        {
            "bf16": True,
            "zero_optimization": {"stage": "two"},
            "optimizer": "AdamW",
            "scheduler": [],
            "gradient_accumulation_steps": "many",
        }
    )
    assert [line.split(":")[0].removeprefix("engine.deepspeed.") for line in lines] == [
        "bf16",
        "zero_optimization.stage",
        "gradient_accumulation_steps",
        "optimizer",
        "scheduler",
    ]


def test_a_flood_of_problems_is_cut_with_their_number():
    lines = said({f"key{number}": 1 for number in range(30)})
    assert len(lines) == 21
    assert lines[-1] == "engine.deepspeed: and 10 more problems"


def test_every_preset_names_its_stage_and_has_its_line_in_the_readme():
    readme = (ROOT / "ds_configs" / "README.md").read_text()
    offloading = {"zero2_offload", "zero3_offload", "zero3_infinity"}
    assert set(deepspeed_source.presets()) == {"zero1", "zero2", "zero3"} | offloading
    for name, file in deepspeed_source.presets().items():
        assert stage_of(recipe(name)) == int(name[4])
        assert unknown_keys(json.loads(file.read_text())) == []
        assert f"| `{name}` |" in readme


def autos(section, at=""):
    """Dotted keys that a preset leaves open."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from autos(value, f"{at}{key}.")
        elif value == "auto":
            yield f"{at}{key}"


def test_presets_leave_open_what_transformers_fills_too():
    """Its Trainer fills these in, and accelerate refuses every other "auto"."""
    filled = {
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
        "gradient_accumulation_steps",
        "gradient_clipping",
        "bf16.enabled",
        "fp16.enabled",
        "zero_optimization.reduce_bucket_size",
        "zero_optimization.stage3_prefetch_bucket_size",
        "zero_optimization.stage3_param_persistence_threshold",
    }
    for file in deepspeed_source.presets().values():
        assert set(autos(json.loads(file.read_text()))) <= filled


def test_a_drive_and_zero_plus_plus_stand_where_deepspeed_reads_them():
    engine = {"offload": "nvme", "nvme": "/drive", "hpz": 8, "quantized_weights": True, "quantized_gradients": True}
    asked = recipe(engine={"kind": "deepspeed", "zero": 3, **engine})
    section = build(asked, zero=3, micro=1, ranks=16, cuda=True, largest=1000)["zero_optimization"]
    assert section["offload_optimizer"] == {"pin_memory": True, "device": "nvme", "nvme_path": "/drive"}
    assert section["offload_param"] == {**section["offload_optimizer"], "buffer_size": 63}
    assert section["zero_hpz_partition_size"] == 8
    assert section["zero_quantized_weights"] is section["zero_quantized_gradients"] is True


TRAINER = """
import json, sys, torch
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments
preset, out = sys.argv[1:]
arguments = TrainingArguments(
    output_dir=out, deepspeed=preset, per_device_train_batch_size=2, max_steps=2, report_to=[], use_cpu=True,
    save_strategy="no", logging_steps=1, learning_rate=1e-3
)
sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1)
model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", vocab_size=64, **sizes))
rows = [{"input_ids": torch.arange(8), "labels": torch.arange(8)} for _ in range(4)]
trainer = Trainer(model=model, args=arguments, train_dataset=rows)
trainer.train()
print("RESULT", json.dumps([row["loss"] for row in trainer.state.log_history if "loss" in row]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zero1", "zero2", "zero2_offload", "zero3", "zero3_offload", "zero3_infinity"])
def test_the_trainer_of_transformers_takes_every_preset_unchanged(name, tmp_path):
    """The first run of some compiles an op of DeepSpeed, for minutes."""
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": "0", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}  # fmt: skip
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    preset = str(deepspeed_source.presets()[name].resolve())
    done = subprocess.run(
        [sys.executable, "-c", TRAINER, preset, str(tmp_path / "out")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    first, second = json.loads(said[7:])
    assert second < first


INITIALISE = """
import json, sys, torch
import torch.distributed as dist
torch.set_num_threads(1)
store = dist.TCPStore("127.0.0.1", 0, 1, True)
dist.init_process_group("gloo", store=store, rank=0, world_size=1)
import deepspeed
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
for name, dtype, config in json.load(sys.stdin):
    model = torch.nn.Linear(8, 8).to(getattr(torch, dtype))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    before = [deepspeed.utils.safe_get_full_fp32_param(p) for p in model.parameters()]
    for last in (False, True):
        engine.set_gradient_accumulation_boundary(last)
        engine.backward(engine(torch.ones(2, 8, dtype=getattr(torch, dtype))).float().sum(), scale_wrt_gas=False)
    norm = sum(float(deepspeed.utils.safe_get_full_grad(p).float().pow(2).sum()) for p in model.parameters()) ** 0.5
    engine.step()
    print("RESULT", json.dumps([name, int(engine.zero_optimization_stage()), norm]))
dist.destroy_process_group()
"""


def test_deepspeed_takes_every_configuration_that_is_built():
    presets = [(name, int(name[4])) for name in ("zero1", "zero2", "zero3")]
    cases = [
        [f"{name} {dtype}", dtype, built(name, zero=zero, ranks=1, model={"dtype": dtype})]
        for name, zero in [*presets, (None, 0)]
        for dtype in ("float32", "bfloat16")
    ]
    bare = built(zero=2, ranks=1, optimizer={"master": "none"})
    cases.append(["no master", "bfloat16", bare])
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": "0", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}  # fmt: skip

    done = subprocess.run(
        [sys.executable, "-c", INITIALISE], input=json.dumps(cases), env=environment, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr[-3000:]
    results = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert [(name, stage) for name, stage, _ in results] == [
        (name, config["zero_optimization"]["stage"]) for name, _, config in cases
    ]
    # Two backward passes of a sum over two rows of ones: each weight and each bias has gradient 4.
    assert [norm for *_, norm in results] == pytest.approx([4 * 72**0.5] * len(results))
