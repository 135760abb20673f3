"""One optimizer step of a tagger on this rank, and its gradient by a plain loop."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch
from distributed import steps
from torch.nn import functional
from transformers import BertConfig, BertForTokenClassification, LlamaConfig, LlamaForTokenClassification

from trainer.config.token_labels import TokenLabels
from trainer.data.batches import Layout
from trainer.data.tags import Tags
from trainer.tasks.token_labels import OfPaths, OfTags

NAMES = ("O", "B-x", "I-x")
MARKS = np.array([2, 0, 1, -100])
"""The number of each mark of the rows."""


def model(family: str, dtype: torch.dtype = torch.float32) -> Any:
    """A small model with a head for tags, equal wherever it is made; without dropout."""
    sizes = {"vocab_size": steps.VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    more = {"num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0, "num_labels": len(NAMES)}
    torch.manual_seed(7)
    if family == "bert":
        off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
        return BertForTokenClassification(BertConfig(**sizes, **more, **off)).to(dtype)
    config = LlamaConfig(**sizes, **more, num_key_value_heads=2, classifier_dropout=0.0)
    return LlamaForTokenClassification(config).to(dtype)


def rows_of(count: int) -> steps.Rows:
    """Rows where some tokens begin a word; in one row none does."""
    rows, generator, found = steps.random_rows(count), np.random.default_rng(3), []
    for row in range(count):
        length = len(rows.tokens(row))
        marks = generator.integers(0, 3, length)
        marks[(generator.random(length) < 0.6) | (row == 5)] = -1
        # Few words, so that all paths can be gone.
        marks[np.flatnonzero(marks >= 0)[6:]] = -1
        found.append(replace(rows.example(row), marks=marks.astype(np.int32)))
    return steps.Rows(found)


def gradient(
    family: str, head: str, kind: str, zero: int, micro: int, rows: int, global_: int, step: int
) -> dict[str, np.ndarray]:
    """The full gradient of optimizer step `step` in steps of `global_` examples."""
    settings = TokenLabels(kind="token_labels", head=head)
    objective = (OfPaths if head == "crf" else OfTags)(settings, Tags(NAMES, {"train": MARKS}))
    layout = Layout(global_=global_, micro=micro, packing=False, micro_tokens=micro * 25, pad=0)
    found: dict[str, np.ndarray] = steps.step_of(objective, model(family), rows_of(rows), layout, kind, zero, step)[
        "gradients"
    ]
    return found


def reference(family: str, head: str, rows: int, first: int, count: int) -> dict[str, np.ndarray]:
    """The same in float64: one example at a time, a field by all of its paths; one division."""
    plain, examples = model(family, torch.float64), rows_of(rows)
    field = {name: torch.zeros(size, dtype=torch.float64) for name, size in (("first", 3), ("last", 3))}
    field["after"] = torch.zeros(3, 3, dtype=torch.float64)
    for one in field.values():
        one.requires_grad_(True)
    chosen = [examples.example(row) for row in range(first, first + count)]
    total = sum(int((one.marks >= 0).sum()) for one in chosen if one.marks is not None)
    for example in chosen:
        assert example.marks is not None
        logits = plain(input_ids=torch.from_numpy(example.tokens.astype(np.int64))[None]).logits[0]
        there = torch.from_numpy(example.marks >= 0)
        right = torch.from_numpy(MARKS[example.marks])[there]
        if head == "linear":
            loss = functional.cross_entropy(logits[there], right, reduction="sum")
        elif len(right):
            loss = _path_loss(field, logits[there], right)
        else:
            loss = logits.sum() * 0
        (loss / total).backward()
    found = {f"model.{name}": parameter.grad.numpy() for name, parameter in plain.named_parameters()}
    if head == "linear":
        return found
    return {**found, **{f"heads.crf.{name}": one.grad.numpy() for name, one in field.items() if one.grad is not None}}


def _path_loss(field: dict[str, torch.Tensor], scores: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    paths = torch.tensor(list(product(range(len(NAMES)), repeat=len(scores))))
    own = scores[torch.arange(len(scores)), paths].sum(dim=1)
    between = field["after"][paths[:, :-1], paths[:, 1:]].sum(dim=1)
    every = own + between + field["first"][paths[:, 0]] + field["last"][paths[:, -1]]
    return every.logsumexp(0) - every[(paths == right).all(dim=1)][0]
