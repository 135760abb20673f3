"""What a recipe of ours asks of another trainer; what it cannot say in that one's settings is refused.

Each run_NAME.py is started as `python run_NAME.py RECIPE.json FOLDER` in the environment of its trainer.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

REFUSED = 2
"""The exit status of work that a trainer does not do."""
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Work:
    """One run."""

    folder: Path
    """Where results go, and what the trainer writes."""
    model: Path
    rows: Path
    """Conversations of one question and one answer, {"messages": [...]}, in the order of training."""
    steps: int
    examples: int
    """Of each step."""
    max_length: int
    packed: bool
    lr: float
    clip: float | None
    weights: str
    """What weights are stored in: float32 or bfloat16."""
    products: str
    """What is computed in."""
    lora: dict[str, Any] | None
    """r and alpha, beside all linear layers."""
    recomputes: bool
    """Activation checkpointing of every layer."""
    last: int | None
    """Only so many of the last layers train."""
    quantized: dict[str, Any] | None
    """Keys of BitsAndBytesConfig for a frozen base in 4 bits."""
    seed: int

    @property
    def autocast(self) -> bool:
        """Whether products have fewer bits than weights."""
        return self.products != self.weights

    def messages(self) -> list[tuple[str, str]]:
        """Question and answer of each row."""
        found = []
        for line in self.rows.read_text(encoding="utf-8").splitlines():
            asked, answer = json.loads(line)["messages"]
            found.append((asked["content"], answer["content"]))
        return found

    def config(self) -> dict[str, Any]:
        """The model's own."""
        content: dict[str, Any] = json.loads((self.model / "config.json").read_text(encoding="utf-8"))
        return content


def read(*, quantizes: bool = False) -> Work:
    """The work that this process was started for; `quantizes`: whether its trainer does so by bitsandbytes."""
    recipe, folder = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
    model, data, train, batch = (recipe[name] for name in ("model", "data", "train", "batch"))
    optimizer, adapter, strategy = (recipe[name] for name in ("optimizer", "adapter", "strategy"))
    told = {
        "data.shuffle": (data["shuffle"], False),
        "data.template": (data["template"], "chatml"),
        "optimizer.kind": (optimizer["kind"], "adamw"),
        "optimizer.weight_decay": (optimizer["weight_decay"], 0.0),
        "schedule.kind": (recipe["schedule"]["kind"], "constant"),
        "schedule.warmup": (recipe["schedule"]["warmup"], 0.0),
        "batch.global": (batch["global"], batch["micro"]),
        "launch.processes": (recipe["launch"]["processes"], 1),
        "task.kind": (recipe["task"]["kind"], "causal_lm"),
    }
    for key, (value, wanted) in told.items():
        if value != wanted:
            refuse(f"{key} is {value}; the comparison is made for {wanted}")
    if model["quantization"] not in (("none", "nf4", "fp4") if quantizes else ("none",)):
        refuse(f"model.quantization is {model['quantization']}; the comparison is not made for it with this trainer")
    last = _last(strategy)
    precision = model["dtype"] if train["precision"] == "auto" else train["precision"]
    lora = {"r": adapter["r"], "alpha": adapter["alpha"]} if adapter["kind"] == "lora" else None
    return Work(
        folder=folder,
        model=Path(model["name"]),
        rows=Path(data["train"][0]["path"]).resolve(),
        steps=train["max_steps"],
        examples=batch["micro"],
        max_length=data["max_length"],
        packed=data["packing"],
        lr=optimizer["lr"],
        clip=train["clip"],
        weights=model["dtype"],
        products=precision,
        lora=lora,
        recomputes=train["checkpointing"] == "full",
        last=last,
        quantized=_quantized(model),
        seed=train["seed"],
    )


def _quantized(model: dict[str, Any]) -> dict[str, Any] | None:
    if model["quantization"] == "none":
        return None
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": model["quantization"],
        "bnb_4bit_use_double_quant": model["double_quantization"],
        "bnb_4bit_compute_dtype": model["dtype"],
    }


def _last(strategy: dict[str, Any]) -> int | None:
    if strategy["kind"] == "full":
        return None
    last = strategy.get("last")
    if strategy["kind"] != "partial" or not isinstance(last, int):
        refuse(f"strategy.kind is {strategy['kind']}; the comparison is made for full, and for the last layers alone")
    return last


def refuse(message: str) -> NoReturn:
    """Ends the process: its trainer does not do this."""
    print(message, file=sys.stderr)
    raise SystemExit(REFUSED)
