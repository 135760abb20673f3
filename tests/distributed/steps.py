"""One optimizer step on this rank, in every layout and engine; runs in the test process and in the pair's ranks."""

from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trainer import ranks
from trainer.config.optimizer import Optimizer
from trainer.data.batches import Layout, Windows
from trainer.data.encoded import Encoded
from trainer.engine.engine import Engine
from trainer.loop.train import accumulate
from trainer.model import checkpointing
from trainer.model.attention import SEGMENTS
from trainer.tasks import causal_lm
from trainer.tasks.objective import Objective

VOCABULARY = 97


class Rows:
    """Tokenised rows in memory, with the interface of a split."""

    def __init__(self, rows: list[Encoded]) -> None:
        self._rows = rows
        self.lengths = np.array([len(row.tokens) for row in rows])
        self.targets = np.array([int(row.learned[1:].sum()) for row in rows])

    def __len__(self) -> int:
        return len(self._rows)

    def tokens(self, row: int) -> np.ndarray:
        return self._rows[row].tokens

    def learned(self, row: int) -> np.ndarray:
        return self._rows[row].learned

    def example(self, row: int) -> Encoded:
        return self._rows[row]


def random_rows(count: int, seed: int = 0) -> Rows:
    """Rows of 3 to 24 tokens whose second part is learned; very unlike in length, so that averages of averages show."""
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        length = int(generator.integers(3, 25))
        learned = np.arange(length) >= generator.integers(1, length)
        rows.append(Encoded(generator.integers(0, VOCABULARY, length).astype(np.int32), learned))
    return Rows(rows)


def model(packing: bool, dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    """A small Llama, equal wherever it is made."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        use_cache=False,
    )
    config._attn_implementation = SEGMENTS if packing else "sdpa"
    torch.manual_seed(7)
    return LlamaForCausalLM(config).to(dtype)


def engine(kind: str, zero: int, micro: int, clip: float | None = None, dtype: str = "float32") -> Engine:
    """An engine as a run would build it."""
    device = torch.device("cpu")
    if kind == "torch":
        from trainer.engine.torch import TorchEngine

        return TorchEngine(device, clip)
    from trainer.config.load import recipe_of
    from trainer.engine.deepspeed import DeepSpeedEngine
    from trainer.plan import deepspeed_json

    recipe = recipe_of(
        {
            "model": {"name": "-", "dtype": dtype},
            "data": {"train": [{"path": "-", "format": "text"}]},
            "train": {"clip": clip},
            "engine": {"kind": "deepspeed", "zero": zero},
        }
    )
    settings = deepspeed_json.build(recipe, zero=zero, micro=micro, ranks=ranks.world_size(), cuda=False)
    return DeepSpeedEngine(device, settings)


def gradient(
    kind: str, zero: int, packing: bool, micro: int, rows: int, global_: int, step: int, recomputed: str = "none"
) -> dict[str, Any]:
    """The full gradient of optimizer step `step` in steps of `global_` examples, and its loss over all ranks."""
    layout = Layout(global_=global_, micro=micro, packing=packing, micro_tokens=micro * 25, pad=0)
    body = model(packing)
    checkpointing.set_up(body, recomputed)
    return step_of(causal_lm.NextToken(), body, random_rows(rows), layout, kind, zero, step)


def step_of(
    objective: Objective, body: Any, rows: Rows, layout: Layout, kind: str, zero: int, step: int
) -> dict[str, Any]:
    """The full gradient of a task's optimizer step, and its loss over all ranks; the model in float32."""
    collate = objective.collate("train")
    windows = Windows(rows, layout, rank=ranks.rank(), ranks=ranks.world_size(), seed=None, collate=collate)
    computing = engine(kind, zero, layout.micro)
    module = objective.module(body, None, whole=computing.shards.whole)
    computing.prepare(module, Optimizer(lr=1e-3))
    window = windows.window(step)
    counts = ranks.all_reduce(objective.counts(window.batches))
    loss = float(accumulate(computing, objective, window, counts, seed=0))
    names = {parameter: name for name, parameter in module.named_parameters()}
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    gradients = {names[parameter]: _gradient_of(parameter, kind) for parameter in trained}
    computing.release()
    return {"loss": ranks.all_reduce({"loss": loss})["loss"], "gradients": gradients, "batches": len(window.batches)}


def _gradient_of(parameter: torch.nn.Parameter, kind: str) -> np.ndarray:
    if kind == "torch":
        # What a model does not use has no gradient; what it should use differs from the reference.
        return np.zeros(parameter.shape) if parameter.grad is None else parameter.grad.numpy().copy()
    from deepspeed.utils import safe_get_full_grad

    return safe_get_full_grad(parameter).float().numpy().copy()


def reference(rows: int, first: int, count: int) -> dict[str, np.ndarray]:
    """The same gradient in float64 by plain torch: one example at a time, all logits, one division."""
    plain = model(packing=False, dtype=torch.float64)
    examples = random_rows(rows)
    total = sum(int(examples.targets[row]) for row in range(first, first + count))
    for row in range(first, first + count):
        tokens = torch.from_numpy(examples.tokens(row).astype(np.int64))
        learned = torch.from_numpy(examples.learned(row))
        logits = plain(input_ids=tokens[None]).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="none")
        (losses[learned[1:]].sum() / total).backward()
    return {f"model.{name}": parameter.grad.numpy() for name, parameter in plain.named_parameters()}
