"""LitGPT, on padded rows; the model is brought into its own form first."""

import json
import shutil
import sys
from pathlib import Path

import torch
from probe import Probe
from work import read, refuse

work = read()
if work.packed:
    refuse("LitGPT pads its rows: set data.packing to false")
if work.recomputes or work.last is not None:
    refuse("LitGPT on one device trains all layers without activation checkpointing, or LoRA beside them")
config = work.config()
probe = Probe(work.folder, config["vocab_size"], config["pad_token_id"])

from litgpt import Config  # noqa: E402
from litgpt.__main__ import main  # noqa: E402
from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama  # noqa: E402
from litgpt.utils import save_config  # noqa: E402
from safetensors.torch import load_file  # noqa: E402


def converted(place: Path) -> Path:
    """The model's folder in LitGPT's form."""
    own = Config(
        name="made",
        block_size=config["max_position_embeddings"],
        vocab_size=config["vocab_size"],
        padded_vocab_size=config["vocab_size"],
        n_layer=config["num_hidden_layers"],
        n_head=config["num_attention_heads"],
        n_query_groups=config["num_key_value_heads"],
        n_embd=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        norm_eps=config["rms_norm_eps"],
        mlp_class_name="LLaMAMLP",
    )
    place.mkdir(parents=True)
    weights: dict[str, torch.Tensor] = {}
    copy_weights_hf_llama(own, {}, weights, load_file(work.model / "model.safetensors"))
    torch.save(weights, place / "lit_model.pth")
    save_config(own, place)
    for file in work.model.iterdir():
        if file.name.startswith(("tokenizer", "config", "generation", "special")):
            shutil.copy(file, place)
    return place


folder = converted(work.folder / "model")
rows = [{"instruction": asked, "input": "", "output": answer} for asked, answer in work.messages()]
(work.folder / "rows").mkdir()
for name, some in (("train", rows), ("val", rows[: work.examples])):
    (work.folder / "rows" / f"{name}.json").write_text(json.dumps(some), encoding="utf-8")
precision = "bf16-mixed" if work.autocast else "bf16-true" if work.weights == "bfloat16" else "32-true"
adamw = {"class_path": "torch.optim.AdamW", "init_args": {"lr": work.lr, "weight_decay": 0.0, "fused": True}}
settings = {
    "precision": precision,
    "out_dir": work.folder / "out",
    "data": "JSON",
    "data.json_path": work.folder / "rows",
    "data.prompt_style": json.dumps({"class_path": "litgpt.prompts.ChatML"}),
    "data.mask_prompt": "true",
    "data.num_workers": 0,
    "train.max_steps": work.steps,
    "train.micro_batch_size": work.examples,
    "train.global_batch_size": work.examples,
    "train.lr_warmup_steps": 1,
    "train.max_seq_length": work.max_length,
    "train.save_interval": 10000,
    "eval.interval": 10000,
    "eval.max_iters": 1,
    "eval.initial_validation": "false",
    "eval.final_validation": "false",
    "optimizer": json.dumps(adamw),
    "seed": work.seed,
    "devices": 1,
}
if work.lora:
    settings |= {"lora_r": work.lora["r"], "lora_alpha": work.lora["alpha"], "lora_dropout": 0.0}
    settings |= {f"lora_{part}": "true" for part in ("query", "key", "value", "projection", "mlp")}
named = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
sys.argv = ["litgpt", "finetune_lora" if work.lora else "finetune_full", str(folder), *named]
main()
probe.close(["litgpt"])
