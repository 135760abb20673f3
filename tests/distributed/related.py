"""One optimizer step of a relation classifier on this rank, and its gradient by a plain loop."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from distributed import steps
from torch.nn import functional
from transformers import BertConfig, BertModel

from trainer.config.relations import Relations
from trainer.data.batches import Layout
from trainer.data.targets import Labels
from trainer.tasks import relations
from trainer.tasks.heads import new_head

PAD, HEAD, TAIL = 0, 1, 2
NAMES = ("a", "b", "none")


def model(dtype: torch.dtype = torch.float32) -> Any:
    """A small BERT without a pooler, equal wherever it is made; without dropout."""
    sizes = {"vocab_size": steps.VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    torch.manual_seed(7)
    config = BertConfig(**sizes, **off, num_attention_heads=4, max_position_embeddings=64, pad_token_id=PAD)
    return BertModel(config, add_pooling_layer=False).to(dtype)


def rows_of(count: int) -> steps.Rows:
    """Rows with one mark of each kind, at any two places."""
    rows, generator, found = steps.random_rows(count), np.random.default_rng(3), []
    for row in range(count):
        tokens = np.maximum(rows.tokens(row), 3)
        tokens[generator.choice(len(tokens), 2, replace=False)] = HEAD, TAIL
        found.append(replace(rows.example(row), tokens=tokens))
    return steps.Rows(found)


def labels_of(count: int) -> np.ndarray:
    return np.random.default_rng(5).choice(3, count, p=[0.5, 0.3, 0.2])


def gradient(
    weighted: bool, kind: str, zero: int, micro: int, rows: int, global_: int, step: int
) -> dict[str, np.ndarray]:
    """The full gradient of optimizer step `step` in steps of `global_` examples."""
    settings = Relations(kind="relations", no_relation="none", class_weights="balanced" if weighted else "none")
    objective = relations.OfRelations(settings, Labels(NAMES, {"train": labels_of(rows)}), (HEAD, TAIL), seed=3)
    layout = Layout(global_=global_, micro=micro, packing=False, micro_tokens=micro * 25, pad=PAD)
    found: dict[str, np.ndarray] = steps.step_of(objective, model(), rows_of(rows), layout, kind, zero, step)[
        "gradients"
    ]
    return found


def reference(weighted: bool, rows: int, first: int, count: int) -> dict[str, np.ndarray]:
    """The same in float64: one example at a time, one division."""
    plain, head = model(torch.float64), new_head(64, 3, 0.02, 3, torch.float64)
    examples, labels = rows_of(rows), labels_of(rows)
    present = np.bincount(labels, minlength=3)
    weights = present.sum() / (3 * present) if weighted else np.ones(3)
    total = float(weights[labels[first : first + count]].sum())
    for row in range(first, first + count):
        tokens = examples.tokens(row).astype(np.int64)
        hidden = plain(input_ids=torch.from_numpy(tokens)[None]).last_hidden_state[0]
        both = torch.cat([hidden[list(tokens).index(mark)] for mark in (HEAD, TAIL)])
        loss = functional.cross_entropy(head(both)[None], torch.tensor([labels[row]]), reduction="sum")
        (loss * float(weights[labels[row]]) / total).backward()
    found = {f"model.{name}": parameter.grad.numpy() for name, parameter in plain.named_parameters()}
    return {**found, **{f"heads.relations.{name}": one.grad.numpy() for name, one in head.named_parameters()}}
