"""What the trainers share that stand on transformers' Trainer: its arguments, the model, LoRA."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from work import LINEAR, Work


def arguments(work: Work) -> dict[str, Any]:
    """Settings of TrainingArguments."""
    return {
        "output_dir": str(work.folder / "out"),
        "max_steps": work.steps,
        "per_device_train_batch_size": work.examples,
        "learning_rate": work.lr,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": work.clip or 0.0,
        "optim": "adamw_torch_fused",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "seed": work.seed,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": work.autocast and work.products == "bfloat16",
        "gradient_checkpointing": work.recomputes,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "train_sampling_strategy": "sequential",
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
    }


def tokenizer(work: Work) -> PreTrainedTokenizerBase:
    """That of the model."""
    words: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(work.model)
    return words


def model(work: Work) -> PreTrainedModel:
    """The model; where only its last layers train, the others are frozen."""
    stored = {} if work.quantized is None else {"quantization_config": BitsAndBytesConfig(**work.quantized)}
    dtype = getattr(torch, work.weights)
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(work.model, dtype=dtype, **stored)
    if work.last is not None:
        layers = loaded.config.num_hidden_layers
        trained = tuple(f"model.layers.{layer}." for layer in range(layers - work.last, layers))
        for name, weight in loaded.named_parameters():
            weight.requires_grad_(name.startswith(trained))
    return loaded


def lora(work: Work) -> Any:
    """Peft's settings; None without an adapter."""
    if work.lora is None:
        return None
    from peft import LoraConfig

    held = {"r": work.lora["r"], "lora_alpha": work.lora["alpha"], "lora_dropout": 0.0}
    return LoraConfig(task_type="CAUSAL_LM", target_modules=LINEAR, **held)
