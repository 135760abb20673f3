"""LLaMA-Factory; packed rows are its `neat_packing`, one row of `data.max_length` tokens a step."""

import json
import sys

import yaml
from probe import Probe
from work import read

work = read()
config = work.config()
probe = Probe(work.folder, config["vocab_size"], config["pad_token_id"])
rows = [{"instruction": asked, "input": "", "output": answer} for asked, answer in work.messages()]
(work.folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
(work.folder / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json"}}), encoding="utf-8")
settings = {
    "stage": "sft",
    "do_train": True,
    "model_name_or_path": str(work.model),
    "template": "chatml",
    "dataset": "rows",
    "dataset_dir": str(work.folder),
    "cutoff_len": work.max_length,
    "output_dir": str(work.folder / "out"),
    "max_steps": work.steps,
    "per_device_train_batch_size": 1 if work.packed else work.examples,
    "gradient_accumulation_steps": 1,
    "learning_rate": work.lr,
    "lr_scheduler_type": "constant",
    "weight_decay": 0.0,
    "max_grad_norm": work.clip or 0.0,
    "optim": "adamw_torch_fused",
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "seed": work.seed,
    "disable_shuffling": True,
    "use_cpu": True,
    "bf16": work.autocast and work.products == "bfloat16",
    "pure_bf16": work.weights == "bfloat16",
    "preprocessing_num_workers": 1,
    "dataloader_num_workers": 0,
    "flash_attn": "sdpa",
    "disable_gradient_checkpointing": not work.recomputes,
    "finetuning_type": "lora" if work.lora else "freeze" if work.last else "full",
    **({"lora_rank": work.lora["r"], "lora_alpha": work.lora["alpha"], "lora_target": "all"} if work.lora else {}),
    **({"freeze_trainable_layers": work.last} if work.last else {}),
    **({"neat_packing": True} if work.packed else {}),
}
place = work.folder / "settings.yaml"
place.write_text(yaml.safe_dump(settings), encoding="utf-8")
sys.argv = ["train", str(place)]

from llamafactory.train.tuner import run_exp  # noqa: E402

run_exp()
probe.close(["llamafactory", "transformers", *(["peft"] if work.lora else [])])
