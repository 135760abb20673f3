"""torchtune's recipes for one device; packed rows fill one row of `data.max_length` tokens a step."""

import runpy
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torchtune
import yaml
from probe import Probe
from work import read, refuse

HERE = Path(__file__).resolve().parent
work = read()
if work.last is not None:
    refuse("torchtune trains all layers, or LoRA beside them")
if work.autocast and not (work.packed or work.lora):
    refuse("torchtune has no autocast: products are computed in the type of the weights")


class Words:
    """A tokenizer, as far as torchtune asks for one."""

    def __init__(self) -> None:
        self.max_seq_len, self.pad_id, self.special_tokens = work.max_length, 0, dict[str, int]()


class Rows:
    """Rows as lists of tokens and labels."""

    def __init__(self) -> None:
        from tokenizers import Tokenizer

        words = Tokenizer.from_file(str(work.model / "tokenizer.json"))
        self.rows = []
        for asked, answer in work.messages():
            before = f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
            texts = (before, f"{answer}<|im_end|>\n")
            one, other = (words.encode(text, add_special_tokens=False).ids for text in texts)
            tokens, labels = [*one, *other], [*([-100] * len(one)), *other]
            self.rows.append({"tokens": tokens[: work.max_length], "labels": labels[: work.max_length]})

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> dict[str, list[int]]:
        return self.rows[place]


def tokenizer() -> Words:
    """What the settings name."""
    return Words()


def rows(tokenizer: Words, packed: bool = False) -> Any:
    """What the settings name."""
    if not packed:
        return Rows()
    from torchtune.datasets import PackedDataset

    return PackedDataset(Rows(), max_seq_len=work.max_length)


class Log:
    """Takes the losses, which torchtune calls `backward` on before they are divided."""

    def __init__(self, **_: Any) -> None: ...

    def log_dict(self, payload: dict[str, Any], step: int) -> None:
        """A step has ended."""
        probe.told(float(payload["loss"]))

    def log_config(self, config: Any) -> None:
        """Nothing."""

    def log(self, *_: Any) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def main() -> None:
    """Runs the recipe of torchtune that does this work."""
    config, own = work.config(), Path(__file__).stem
    sys.modules[own] = sys.modules["__main__"]
    kind = "lora_llama3" if work.lora else "llama3"
    model: dict[str, Any] = {
        "_component_": f"torchtune.models.llama3.{kind}",
        "vocab_size": config["vocab_size"],
        "num_layers": config["num_hidden_layers"],
        "num_heads": config["num_attention_heads"],
        "num_kv_heads": config["num_key_value_heads"],
        "embed_dim": config["hidden_size"],
        "max_seq_len": config["max_position_embeddings"],
        "intermediate_dim": config["intermediate_size"],
        "norm_eps": config["rms_norm_eps"],
        "rope_base": 10000,
    }
    if work.lora:
        held = {"lora_rank": work.lora["r"], "lora_alpha": work.lora["alpha"], "apply_lora_to_mlp": True}
        model |= {"lora_attn_modules": ["q_proj", "k_proj", "v_proj", "output_proj"], **held}
    out = str(work.folder / "out")
    settings = {
        "output_dir": out,
        "model": model,
        "tokenizer": {"_component_": f"{own}.tokenizer"},
        "dataset": {"_component_": f"{own}.rows", "packed": work.packed},
        "checkpointer": {
            "_component_": "torchtune.training.FullModelHFCheckpointer",
            "checkpoint_dir": str(work.model),
            "checkpoint_files": ["model.safetensors"],
            "recipe_checkpoint": None,
            "output_dir": out,
            "model_type": "LLAMA3",
        },
        "resume_from_checkpoint": False,
        "save_adapter_weights_only": True,
        "seed": work.seed,
        "shuffle": False,
        "batch_size": 1 if work.packed else work.examples,
        "optimizer": {"_component_": "torch.optim.AdamW", "lr": work.lr, "weight_decay": 0.0, "fused": True},
        "loss": {"_component_": "torchtune.modules.loss.CEWithChunkedOutputLoss"},
        "epochs": 1,
        "max_steps_per_epoch": work.steps,
        "gradient_accumulation_steps": 1,
        "clip_grad_norm": work.clip,
        "compile": False,
        "optimizer_in_bwd": False,
        "device": "cpu",
        "dtype": "bf16" if work.products == "bfloat16" else "fp32",
        "log_every_n_steps": 1,
        "log_peak_memory_stats": False,
        "metric_logger": {"_component_": f"{own}.Log"},
        "enable_activation_checkpointing": work.recomputes,
        "enable_activation_offloading": False,
        "profiler": {"_component_": "torchtune.training.setup_torch_profiler", "enabled": False},
    }
    if work.lora:
        constant = {"num_warmup_steps": 0, "num_cycles": 0.0}
        settings["lr_scheduler"] = {
            "_component_": "torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup",
            **constant,
        }
    place = work.folder / "settings.yaml"
    place.write_text(yaml.safe_dump(settings), encoding="utf-8")
    recipe = "lora_finetune_single_device" if work.lora else "full_finetune_single_device"
    sys.argv = ["tune", "--config", str(place)]
    # No package holds the recipes: they lie beside torchtune.
    with suppress(SystemExit):
        runpy.run_path(str(Path(torchtune.__file__).parents[1] / "recipes" / f"{recipe}.py"), run_name="__main__")


probe = Probe(work.folder, work.config()["vocab_size"], work.config()["pad_token_id"], losses=False)
if __name__ == "__main__":
    main()
    probe.close(["torchtune"])
