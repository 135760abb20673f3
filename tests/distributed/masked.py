"""One optimizer step of a masked language model on this rank, and its gradient by a plain loop."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from distributed import steps
from torch.nn import functional
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, DistilBertConfig, DistilBertForMaskedLM

from trainer.config.masked_lm import MaskedLM
from trainer.data.batches import IGNORED, Layout
from trainer.data.masking import Masking
from trainer.tasks.masked_lm import Masked

MASK, SEED = 3, 11
SPECIAL = np.arange(steps.VOCABULARY) < 5


def model(family: str, dtype: torch.dtype = torch.float32) -> Any:
    """A small model, equal wherever it is made; without dropout."""
    torch.manual_seed(7)
    if family == "distilbert":
        sizes = {"vocab_size": steps.VOCABULARY, "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4}
        off = {"dropout": 0.0, "attention_dropout": 0.0}
        return DistilBertForMaskedLM(DistilBertConfig(**sizes, **off, max_position_embeddings=64)).to(dtype)
    sizes = {"vocab_size": steps.VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(**sizes, **off, num_attention_heads=4, max_position_embeddings=64, pad_token_id=0)
    return (BertForPreTraining if family == "pairs" else BertForMaskedLM)(config).to(dtype)


def rows_of(count: int) -> steps.Rows:
    """Rows of two texts, some of them without a token that can be masked."""
    rows, found = steps.random_rows(count), []
    for row in range(count):
        tokens = rows.tokens(row) if row != 5 else np.full_like(rows.tokens(row), 1)
        types = (np.arange(len(tokens)) >= len(tokens) // 2).astype(np.int8)
        found.append(replace(rows.example(row), tokens=tokens, types=types))
    return steps.Rows(found)


def objective(family: str, rows: steps.Rows) -> Masked:
    ordinary = np.flatnonzero(~SPECIAL).astype(np.int32)
    masking = Masking(MASK, 0.3, ordinary, SPECIAL)
    settings = MaskedLM(kind="masked_lm", next_sentence=family == "pairs")
    return Masked(settings, masking, {"train": rows}, SEED)  # type: ignore[dict-item]


def gradient(
    family: str, kind: str, zero: int, micro: int, rows: int, global_: int, step: int
) -> dict[str, np.ndarray]:
    """The full gradient of optimizer step `step` in steps of `global_` examples."""
    layout = Layout(global_=global_, micro=micro, packing=False, micro_tokens=micro * 25, pad=0)
    examples = rows_of(rows)
    made = steps.step_of(objective(family, examples), model(family), examples, layout, kind, zero, step)
    found: dict[str, np.ndarray] = made["gradients"]
    return found


def reference(family: str, rows: int, first: int, count: int) -> dict[str, np.ndarray]:
    """The same in float64: one example at a time through the whole model, each term by one division."""
    plain, examples = model(family, torch.float64), rows_of(rows)
    layout = Layout(global_=1, micro=1, packing=False, micro_tokens=25, pad=0)
    collate = objective(family, examples).collate("train")
    batches = [collate([row], [examples.example(row)], layout, 0) for row in range(first, first + count)]
    total = sum(int((batch.targets != IGNORED).sum()) for batch in batches)
    for batch in batches:
        inputs = {"input_ids": batch.input_ids}
        if family != "distilbert":
            inputs["token_type_ids"] = batch.token_type_ids
        said = plain(**inputs)
        logits = said.prediction_logits if family == "pairs" else said.logits
        flat = functional.cross_entropy(logits[0], batch.targets[0], reduction="sum", ignore_index=IGNORED)
        loss = flat / total
        if family == "pairs":
            loss = loss + functional.cross_entropy(said.seq_relationship_logits, batch.labels) / count
        loss.backward()
    return {
        f"model.{name}": np.zeros(one.shape) if one.grad is None else one.grad.numpy()
        for name, one in plain.named_parameters()
    }
