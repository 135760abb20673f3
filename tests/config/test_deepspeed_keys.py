"""The table of DeepSpeed's keys, against the installed DeepSpeed.

python tests/config/test_deepspeed_keys.py    # writes the table again
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from trainer.config import deepspeed_keys
from trainer.config.deepspeed_keys import unknown_keys, wrong_sections

TABLE = Path(deepspeed_keys.__file__).with_suffix(".json")
# Sections that DeepSpeed reads as plain mappings, with the sections inside them.
PLAIN = {
    "activation_checkpointing": {},
    "aio": {},
    "autotuning": {"model_info": {}},
    "checkpoint": {"parallel_write": {}, "writer": {}},
    "data_types": {},
    "expert_parallel": {"enabled": False},
    "flops_profiler": {},
    "torch_autocast": {"dtype": "bfloat16", "lower_precision_safe_modules": []},
}
# Keys that DeepSpeed reads outside its configuration class, and sections that it leaves open.
ELSEWHERE = ("sequence_parallel_size", "data_parallel_size", "vocabulary_size")
OPEN = ("optimizer", "scheduler", "data_efficiency", "datastates_ckpt")
# `pipeline` is copied key by key; these are the keys of its defaults.
PIPELINE = (
    "stages",
    "partition",
    "seed_layers",
    "activation_checkpoint_interval",
    "pipe_partitioned",
    "grad_partitioned",
)


class Recorder(dict):
    """A mapping that remembers each key that somebody looks for."""

    def __init__(self, *args):
        super().__init__(*args)
        self.seen = {}

    def note(self, key):
        self.seen.setdefault(key)

    def get(self, key, default=None):
        self.note(key)
        return super().get(key, default)

    def __getitem__(self, key):
        self.note(key)
        return super().__getitem__(key)

    def __contains__(self, key):
        self.note(key)
        return super().__contains__(key)

    def keys(self):
        return self


def recorder(value):
    return Recorder({key: recorder(inner) for key, inner in value.items()}) if isinstance(value, dict) else value


def seen(value: Recorder) -> dict:
    found = {}
    for key in value.seen:
        inner = dict.get(value, key)
        found[key] = seen(inner) if isinstance(inner, Recorder) else None
    return found


def model_keys(model) -> dict:
    """The fields of a pydantic model under every name they may have."""
    found = {}
    for name, field in model.model_fields.items():
        inner = next((model_keys(part) for part in parts(field.annotation) if hasattr(part, "model_fields")), None)
        for key in filter(None, (name, field.alias)):
            found[key] = inner
    return found


def parts(annotation) -> Iterator:
    yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from parts(inner)


def installed_table() -> dict:
    from deepspeed.comm.config import CommsLoggerConfig
    from deepspeed.compile.config import CompileConfig
    from deepspeed.inference.config import WeightQuantConfig
    from deepspeed.monitor import config as monitor
    from deepspeed.runtime import config as runtime
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.tensor_parallel.config import TPTrainingConfig
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from deepspeed.utils.config import DeepSpeedThroughputTimerConfig

    models = {
        "bf16": DeepSpeedBF16Config,
        "bfloat16": DeepSpeedBF16Config,
        "comet": monitor.CometConfig,
        "comms_logger": CommsLoggerConfig,
        "compile": CompileConfig,
        "csv_monitor": monitor.CSVConfig,
        "fp16": DeepSpeedFP16Config,
        "hybrid_engine": runtime.HybridEngineConfig,
        "tensor_parallel": TPTrainingConfig,
        "tensorboard": monitor.TensorBoardConfig,
        "wandb": monitor.WandbConfig,
        "weight_quantization": WeightQuantConfig,
        "zero_optimization": DeepSpeedZeroConfig,
    }
    read = Recorder({"train_batch_size": 1, **recorder(PLAIN)})
    runtime.DeepSpeedConfig(read)
    keys = {**seen(read), **{name: model_keys(model) for name, model in models.items()}, **dict.fromkeys(ELSEWHERE)}
    keys.update(dict.fromkeys(OPEN))
    keys["pipeline"] = dict.fromkeys(PIPELINE)
    keys["timers"] = {"throughput": model_keys(DeepSpeedThroughputTimerConfig)}
    removed = dict.fromkeys(runtime._REMOVED_TOP_LEVEL_CONFIG_KEYS)
    removed["zero_optimization"] = dict.fromkeys(runtime._REMOVED_ZERO_CONFIG_KEYS)
    known = {key: value for key, value in keys.items() if key not in removed or value is not None}
    return {"keys": in_order(known), "removed": in_order(removed)}


def in_order(value):
    return {key: in_order(value[key]) for key in sorted(value)} if isinstance(value, dict) else value


def test_the_table_holds_the_keys_of_the_installed_deepspeed():
    # A process of its own: DeepSpeed warns and changes global state as it is imported.
    command = [sys.executable, __file__, "--print"]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(TABLE.parents[2])}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert json.loads(printed.splitlines()[-1]) == json.loads(TABLE.read_text())


def test_a_misspelt_section_and_a_misspelt_key_inside_a_section_are_found():
    assert unknown_keys(
        {
            "zero_optimisation": {"stage": 2},
            "zero_optimization": {"stage": 2, "overlap_com": True, "offload_param": {"devise": "cpu"}},
            "bf16": {"enable": True},
            "checkpoint": {"writer": {"typ": "FAST"}},
        }
    ) == [
        ("zero_optimisation", "; did you mean zero_optimization?"),
        ("zero_optimization.overlap_com", "; did you mean overlap_comm?"),
        ("zero_optimization.offload_param.devise", "; did you mean device?"),
        ("bf16.enable", "; did you mean enabled?"),
        ("checkpoint.writer.typ", "; did you mean type?"),
    ]


def test_a_key_that_deepspeed_removed_is_named_as_removed():
    assert unknown_keys({"elasticity": {"enabled": True}, "zero_optimization": {"mics_shard_size": 4}}) == [
        ("elasticity", "; DeepSpeed has removed it: leave it out"),
        ("zero_optimization.mics_shard_size", "; DeepSpeed has removed it: leave it out"),
    ]


def test_both_names_of_a_zero_3_setting_and_open_sections_are_known():
    assert not unknown_keys(
        {
            "zero_optimization": {"stage3_prefetch_bucket_size": 1, "prefetch_bucket_size": 1, "leaf_module": {}},
            "optimizer": {"type": "AdamW", "params": {"anything": 1}},
            "data_efficiency": {"enabled": True, "anything": {}},
            "torch_autocast": {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []},
            "tensor_parallel": {"autotp_size": 1, "tp": {"tp_size": 1}},
            "sequence_parallel_size": 1,
        }
    )


def test_a_value_in_the_place_of_a_section_is_found():
    assert wrong_sections(
        {"bf16": True, "fp16": "auto", "zero_optimization": {"offload_param": "cpu", "stage": 3}}
    ) == [
        "bf16",
        "zero_optimization.offload_param",
    ]


if __name__ == "__main__":
    if "--print" in sys.argv:
        print(json.dumps(installed_table()))
    else:
        TABLE.write_text(json.dumps(installed_table(), indent=1) + "\n")
